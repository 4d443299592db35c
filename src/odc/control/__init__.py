"""One pass: observe, plan, decide, perform. And the requests of clients."""

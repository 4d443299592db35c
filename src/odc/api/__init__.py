"""Messages, the HTTP application, its transports and the client."""

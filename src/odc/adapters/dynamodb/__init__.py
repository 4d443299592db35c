"""Records in DynamoDB, for a cloud without a database server."""

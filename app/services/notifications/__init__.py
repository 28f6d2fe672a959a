"""Messages to the people of a tenant: what is worth saying (rules), how (texts), once (outbox), and to where (send)."""

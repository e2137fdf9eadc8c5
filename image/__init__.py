"""The product on a card: what is built for, and run on, machines other than this one."""

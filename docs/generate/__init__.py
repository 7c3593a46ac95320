"""What in docs/ is made by a command: the references and the figures."""

"""The market operator's page: a process of its own that reads the operator plane and holds no order socket."""

"""The cases. A case is a plain function over one `Stage`, proves one promise, and says so in its docstring."""

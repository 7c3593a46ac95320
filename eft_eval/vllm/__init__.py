"""A composite as one native vLLM model: engine arguments, the model class, and vLLM's plug-in."""

"""Fine-tune a language model, and know when to stop, which checkpoint to ship, and what data to add next."""

__version__ = "0.1.0"

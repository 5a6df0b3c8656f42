"""Chats to token sequences with loss masks; fingerprints and the leakage check."""

from fettle.data.encoder import ChatEncoder, EncodedExamples
from fettle.data.example import Example, choose_indices, choose_samples, message_text, read_examples
from fettle.data.fingerprint import examples_fingerprint, fingerprint
from fettle.data.leakage import Leakage, leakage
from fettle.data.pattern import PatternClassifier
from fettle.data.sequence import Sequence

__all__ = [
    "ChatEncoder",
    "EncodedExamples",
    "Example",
    "Leakage",
    "PatternClassifier",
    "Sequence",
    "choose_indices",
    "choose_samples",
    "examples_fingerprint",
    "fingerprint",
    "leakage",
    "message_text",
    "read_examples",
]

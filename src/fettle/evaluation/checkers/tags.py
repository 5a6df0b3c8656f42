"""The part of an answer between two tags, and whether they are well-formed."""

from __future__ import annotations

from dataclasses import replace

from fettle.evaluation.checkers.check import Check, Checker, Reference


def tagged(text: str, tag: str) -> tuple[str, bool]:
    """What stands in the last <tag>...</tag>, and whether there is one pair and no more.

    Ability shows without form: after an opening tag that is never closed the rest counts, before a
    closing one that was never opened all before it, and without tags everything.
    """
    opening, closing = f"<{tag}>", f"</{tag}>"
    start, stop = text.rfind(opening), text.rfind(closing)
    formed = text.count(opening) == text.count(closing) == 1 and start < stop
    if stop < start:
        return text[start + len(opening) :], formed
    begin = start + len(opening) if start >= 0 else 0
    return (text[begin:stop] if stop >= 0 else text), formed


def within_tag(checker: Checker, tag: str) -> Checker:
    """Judges what stands in the tag, and reports the tags by themselves."""

    def check(answer: str, against: Reference) -> Check:
        inner, formed = tagged(answer, tag)
        found = checker(inner, against)
        return replace(found, formatted=formed and found.formatted is not False)

    return check

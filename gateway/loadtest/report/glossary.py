"""What the words of the page mean, for a reader who has only the page."""

from collections.abc import Mapping

GLOSSARY: Mapping[str, str] = {
    "Window": "From the sending of a token's revocation until it's refused for good, at one "
    "target. It's known to lie between two probes: the last one accepted and the first one "
    "refused. Headline figures take the second, which can only be too long.",
    "Never seen to end": "The token was still accepted, or not yet refused for good, when the "
    "watch ended. Such a window counts as longer than what was seen of it (Kaplan and Meier's "
    "estimate); a percentile that it leaves open is given as “> x”.",
    "95 % limits": "Pointwise confidence limits (exponential Greenwood formula).",
    "Probe resolution": "The 99th percentile of the gaps between answered probes of one token "
    "around its revocation: a window shorter than that may look like none.",
    "Stale accept": "A probe accepted although it was sent after the revocation was answered.",
    "False refusal": "A refusal of a token that wasn't revoked.",
    "Flapping": "A token was accepted again after a refusal. Workers or replicas behind one "
    "address, each with a cache of its own, let go of a token one after the other, and a probe "
    "meets any of them. None is wrong as long as the promise is kept; but the last one ends the "
    "window, so that windows may be longer than a single cache would give.",
    "Fixed-lifetime cache": "A cache that keeps a validated token for max age, filled at a random "
    "time before the revocation, gives windows spread evenly from 0 to max age. Tested by "
    "Kolmogorov and Smirnov on the middles of the windows; p above 0.01 is called agreement.",
    "Latency": "From the instant a request was planned for, so that a late generator can't hide "
    "a slow gateway (no coordinated omission).",
}

//! Tree literals, scenario replay, reference model. Used from tests only.

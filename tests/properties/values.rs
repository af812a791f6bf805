//! Values that several topics use.

use proptest::prelude::*;
use proptest::sample::select;

/// Numbers with their extremes, which a plain `any` rarely hits.
pub(super) fn number() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), select(vec![i64::MIN, -1, 0, 1, i64::MAX])]
}

pub(super) fn transaction() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), select(vec![0, 3, u64::MAX])]
}

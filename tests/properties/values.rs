//! Values that several topics draw from.

use icinga_desktop_bridge::model::notification::Severity;
use proptest::prelude::*;
use proptest::sample::select;

pub(super) const SEVERITIES: [Severity; 9] = [
    Severity::Ok,
    Severity::Debug,
    Severity::Info,
    Severity::Notice,
    Severity::Warning,
    Severity::Err,
    Severity::Crit,
    Severity::Alert,
    Severity::Emerg,
];

/// Numbers with their extremes, which a plain `any` seldom hits.
pub(super) fn number() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), select(vec![i64::MIN, -1, 0, 1, i64::MAX])]
}

pub(super) fn transaction() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), select(vec![0, 3, u64::MAX])]
}

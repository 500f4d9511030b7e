//! What cannot be applied of a rule, gathered while it is read.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::model::{RuleFault, RuleFaultReason};

/// The faults of one rule so far.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<RuleFault>);

/// A value that the standard has no meaning for, or this mesh none yet.
pub(super) fn unsupported(field: impl Into<String>, detail: impl Into<String>) -> RuleFault {
    RuleFault {
        reason: RuleFaultReason::UnsupportedValue,
        field: field.into(),
        detail: detail.into(),
    }
}

/// Filters that cannot be applied together, or not in this place.
pub(super) fn incompatible(field: impl Into<String>, detail: impl Into<String>) -> RuleFault {
    RuleFault {
        reason: RuleFaultReason::IncompatibleFilters,
        ..unsupported(field, detail)
    }
}

impl Faults {
    pub(super) fn add(&mut self, fault: RuleFault) {
        self.0.push(fault);
    }

    /// What was read, or none and a fault.
    pub(super) fn keep<T>(&mut self, read: Result<T, RuleFault>) -> Option<T> {
        read.map_err(|fault| self.add(fault)).ok()
    }

    /// A piece of a rule as its type; none if it is not there, or is of another shape, which is a fault.
    pub(super) fn piece<T: DeserializeOwned>(&mut self, value: Option<Value>, field: &str) -> Option<T> {
        let value = value.filter(|value| !value.is_null())?;
        self.keep(serde_json::from_value(value).map_err(|error| unsupported(field, format!("cannot be read: {error}"))))
    }
}

impl From<Faults> for Vec<RuleFault> {
    fn from(faults: Faults) -> Self {
        faults.0
    }
}

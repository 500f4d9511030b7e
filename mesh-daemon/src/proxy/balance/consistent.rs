//! What `RingHash` and `Maglev` have in common: what their tables depend on, and whom a key goes to when its target is not usable.

use std::net::SocketAddr;

use super::{
    Choice,
    hash::{mix, of_address},
};
use crate::model::UpstreamEndpoint;

/// Places of a table that are tried for one key, in its own order. With 9 of 10 endpoints unusable one key in a thousand finds none there;
/// for it all endpoints are compared.
const PROBES: usize = 64;
/// Endpoints that a table holds: its entries are `u16`, which halves its size. What is beyond, far above what a Service has, gets no keys.
pub(super) const ENDPOINTS_MAX: usize = u16::MAX as usize;

/// What a table of endpoints is made from, in their order: as long as it is the same, so is the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Basis(Vec<(SocketAddr, u16)>);

impl Basis {
    /// Of an upstream's endpoints.
    pub(super) fn of(endpoints: &[UpstreamEndpoint]) -> Self {
        // a weight of 0 is no weight in the model; a schedule would divide by it
        let entry = |endpoint: &UpstreamEndpoint| (endpoint.address, endpoint.weight().max(1));
        Self(endpoints.iter().map(entry).collect())
    }

    /// Of endpoints at addresses of no meaning.
    #[cfg(test)]
    pub(super) fn of_weights(weights: impl Iterator<Item = u16>) -> Self {
        let address = |number: u16| SocketAddr::from((std::net::Ipv4Addr::from(0x0a00_0000 + u32::from(number)), 80));
        Self((0..).map(address).zip(weights).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().map(|(address, _)| *address)
    }

    pub(super) fn weights(&self) -> impl Iterator<Item = u16> {
        self.0.iter().map(|(_, weight)| *weight)
    }

    /// As much of it as a table holds: each endpoint's number there, the hash of its address, its weight.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u16, u64, u16)> {
        let numbered = self.0.iter().zip(0..u16::MAX);
        numbered.map(|((address, weight), number)| (number, of_address(*address), *weight))
    }
}

/// The first usable endpoint in the key's own order; if none of the first places has one, the usable endpoint that ranks highest for the key
/// (rendezvous hashing; Thaler, Ravishankar: A Name-Based Mapping Scheme for Rendezvous, 1996), which is even and the same on all nodes, too.
pub(super) fn first_usable(choice: &Choice<'_>, key: u64, order: impl Iterator<Item = u16>) -> Option<usize> {
    let usable = |index: &usize| *index < choice.endpoints.len() && (choice.usable)(*index);
    let found = order.take(PROBES).map(usize::from).find(usable);
    found.or_else(|| {
        let rank = |index: &usize| mix(key ^ of_address(choice.endpoints[*index].address));
        (0..choice.endpoints.len()).filter(usable).max_by_key(rank)
    })
}

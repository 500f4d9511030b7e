//! Multicast groups of netlink, by the kernel's names (`linux/rtnetlink.h`, `linux/netfilter/nfnetlink.h`).

pub(in crate::bpf) const NFNLGRP_NFTABLES: u32 = 7;
pub(in crate::bpf) const RTNLGRP_LINK: u32 = 1;
pub(in crate::bpf) const RTNLGRP_NEIGH: u32 = 3;
pub(in crate::bpf) const RTNLGRP_IPV4_IFADDR: u32 = 5;
pub(in crate::bpf) const RTNLGRP_IPV4_ROUTE: u32 = 7;
pub(in crate::bpf) const RTNLGRP_IPV4_RULE: u32 = 8;
pub(in crate::bpf) const RTNLGRP_IPV6_IFADDR: u32 = 9;
pub(in crate::bpf) const RTNLGRP_IPV6_ROUTE: u32 = 11;
pub(in crate::bpf) const RTNLGRP_IPV6_RULE: u32 = 19;

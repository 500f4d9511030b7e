//! A kernel that lacks something, for one process: a seccomp filter answers one system call as an older kernel would.

use std::{io, os::unix::process::CommandExt, process::Command};

use anyhow::Result;
use nix::libc;

/// `BPF_PROG_QUERY`, which the daemon asks TCX with.
const BPF_PROG_QUERY: u32 = 16;
/// Where `struct seccomp_data` has the number of the system call, and its first argument (its low half, on a little-endian machine).
const NUMBER_AT: u32 = 0;
const ARGUMENTS_AT: u32 = 16;
/// Bytes of an argument.
const ARGUMENT_BYTES: u32 = 8;

/// A system call with one value of one argument, and the error that it gives.
#[derive(Clone, Copy, Debug)]
pub struct Missing {
    call: libc::c_long,
    /// Index and value; any value if none.
    argument: Option<(u32, u32)>,
    errno: i32,
}

impl Missing {
    /// As before Linux 6.6.
    pub const TCX: Self = Self {
        call: libc::SYS_bpf,
        argument: Some((0, BPF_PROG_QUERY)),
        errno: libc::EINVAL,
    };
    /// As without `CONFIG_BPF_SYSCALL`.
    pub const BPF: Self = Self {
        call: libc::SYS_bpf,
        argument: None,
        errno: libc::ENOSYS,
    };
    /// As without `CONFIG_NETFILTER_NETLINK`.
    pub const NFTABLES: Self = Self {
        call: libc::SYS_socket,
        argument: Some((2, libc::NETLINK_NETFILTER as u32)),
        errno: libc::EPROTONOSUPPORT,
    };

    /// Lets the command run without it. The caller must be root.
    ///
    /// # Errors
    /// If the number of the system call has no place in a filter.
    pub fn deny(self, command: &mut Command) -> Result<()> {
        let mut filter = self.filter()?;
        let len = libc::c_ushort::try_from(filter.len())?;
        let install = move || {
            let program = libc::sock_fprog {
                len,
                filter: filter.as_mut_ptr(),
            };
            // SAFETY: the program and the filter that it points to live through the call, which copies them
            let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
            if done == 0 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        };
        // SAFETY: between fork and exec it makes one system call, and allocates nothing
        unsafe { command.pre_exec(install) };
        Ok(())
    }

    /// The filter: everything that is not this call with this argument is allowed.
    fn filter(self) -> Result<Vec<libc::sock_filter>> {
        let load = |at| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at);
        // how many instructions to skip if it is another call
        let rest = if self.argument.is_some() { 3 } else { 1 };
        let mut filter = vec![load(NUMBER_AT), unless(u32::try_from(self.call)?, rest)];
        if let Some((index, value)) = self.argument {
            filter.extend([load(ARGUMENTS_AT + index * ARGUMENT_BYTES), unless(value, 1)]);
        }
        let error = libc::SECCOMP_RET_ERRNO | u32::try_from(self.errno)?;
        let give = libc::BPF_RET | libc::BPF_K;
        filter.extend([statement(give, error), statement(give, libc::SECCOMP_RET_ALLOW)]);
        Ok(filter)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the code of an instruction has 16 bits")]
fn statement(code: u32, value: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k: value,
    }
}

/// Skips so many instructions unless what was loaded is this.
fn unless(value: u32, skip: u8) -> libc::sock_filter {
    libc::sock_filter {
        jf: skip,
        ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value)
    }
}

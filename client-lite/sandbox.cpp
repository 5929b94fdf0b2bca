#include "client-lite/sandbox.h"

#include <sched.h>
#include <seccomp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace adit::client {
namespace {

// By name, for a name that an architecture does not have is none of its dangers or needs.
constexpr const char* kAllowed[] = {
    // packets, timers, signals
    "read", "readv", "write", "writev", "pread64", "pwrite64", "sendto", "sendmsg", "sendmmsg",
    "recvfrom", "recvmsg", "recvmmsg", "recvmmsg_time64", "epoll_wait", "epoll_pwait",
    "epoll_pwait2", "epoll_ctl", "epoll_create1", "poll", "ppoll", "ppoll_time64", "select",
    "pselect6", "timerfd_create", "timerfd_settime", "timerfd_settime64", "timerfd_gettime",
    "eventfd2", "signalfd4", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigreturn",
    "sigaltstack", "restart_syscall",
    // sockets; socket() itself below
    "bind", "connect", "listen", "accept", "accept4", "getsockname", "getpeername", "getsockopt",
    "setsockopt", "shutdown", "ioctl",
    // the clock, random numbers
    "clock_gettime", "clock_gettime64", "clock_getres", "clock_nanosleep",
    "clock_nanosleep_time64", "gettimeofday", "time", "nanosleep", "getrandom",
    // state files, the journal, the resolver's configuration
    "open", "openat", "close", "fstat", "fstat64", "stat", "stat64", "lstat", "newfstatat",
    "fstatat64", "statx", "fstatfs", "lseek", "_llseek", "ftruncate", "ftruncate64", "rename",
    "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "access", "faccessat",
    "faccessat2", "fcntl", "fcntl64", "flock", "fsync", "fdatasync", "getdents64", "readlink",
    "readlinkat", "umask", "dup", "pipe2",
    // memory and threads; clone() itself below
    "mmap", "mmap2", "munmap", "mremap", "mprotect", "madvise", "brk", "futex", "futex_time64",
    "set_robust_list", "rseq", "sched_yield", "sched_getaffinity", "sched_setaffinity",
    "membarrier", "prlimit64", "getrlimit", "ugetrlimit", "set_tid_address", "arch_prctl",
    // who we are; giving up more of it
    "getpid", "gettid", "getuid", "geteuid", "getgid", "getegid", "uname", "sysinfo", "prctl",
    "capget", "capset",
    // the end
    "exit", "exit_group", "tgkill"};

constexpr const char* kDeadly[] = {
    "execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "init_module",
    "finit_module", "delete_module", "kexec_load", "kexec_file_load", "bpf", "perf_event_open",
    "mount", "umount2", "pivot_root", "chroot", "setns", "unshare", "open_by_handle_at",
    "userfaultfd", "keyctl", "add_key", "request_key", "reboot", "swapon", "swapoff"};

constexpr int kFamilies[] = {AF_INET, AF_INET6, AF_UNIX, AF_NETLINK};

// Threads for names are made with clone(); clone3() has its flags where a filter cannot see them,
// and the C library takes the other when it is told that there is none.
int add_rules(scmp_filter_ctx filter) {
  int error = 0;
  const auto add = [&](uint32_t action, const char* name) {
    const int number = seccomp_syscall_resolve_name(name);
    if (number == __NR_SCMP_ERROR || error != 0) return;
    error = seccomp_rule_add(filter, action, number, 0);
  };
  for (const char* name : kAllowed) add(SCMP_ACT_ALLOW, name);
  for (const char* name : kDeadly) add(SCMP_ACT_KILL_PROCESS, name);
  add(SCMP_ACT_ERRNO(ENOSYS), "clone3");
  for (const int family : kFamilies) {
    if (error != 0) return error;
    error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                             SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(family)));
  }
  if (error != 0) return error;
  return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                          SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
}

}  // namespace

bool enter_sandbox(std::string& refusal) {
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
  int error = filter == nullptr ? -ENOMEM : add_rules(filter);
  if (error == 0) error = seccomp_load(filter);
  if (filter != nullptr) seccomp_release(filter);
  if (error != 0) refusal = std::string("system calls are not filtered: ") + std::strerror(-error);
  return error == 0;
}

}  // namespace adit::client

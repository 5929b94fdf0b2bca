#include "client-lite/sandbox.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <span>

#include "client-lite/file_descriptor.h"

namespace adit::client {
namespace {

// By name, for a name that an architecture does not have is none of its dangers or needs. Of some
// calls 32-bit ones have another, for wider numbers or times, or the C library prefers another.
constexpr const char* kClientCalls[] = {
    // packets, timers, signals
    "read", "readv", "write", "writev", "pread64", "pwrite64", "send", "sendto", "sendmsg",
    "sendmmsg", "recv", "recvfrom", "recvmsg", "recvmmsg", "recvmmsg_time64", "epoll_wait",
    "epoll_pwait", "epoll_pwait2", "epoll_ctl", "epoll_create1", "poll", "ppoll", "ppoll_time64",
    "select", "_newselect", "pselect6", "pselect6_time64", "timerfd_create", "timerfd_settime",
    "timerfd_settime64", "timerfd_gettime", "timerfd_gettime64", "eventfd2", "signalfd4",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigreturn", "sigaltstack",
    "restart_syscall",
    // sockets; socket() itself below
    "bind", "connect", "listen", "accept", "accept4", "getsockname", "getpeername", "getsockopt",
    "setsockopt", "shutdown", "ioctl",
    // the clock, random numbers
    "clock_gettime", "clock_gettime64", "clock_getres", "clock_getres_time64", "clock_nanosleep",
    "clock_nanosleep_time64", "gettimeofday", "time", "nanosleep", "getrandom",
    // state files, the journal, the resolver's configuration
    "open", "openat", "close", "fstat", "fstat64", "stat", "stat64", "lstat", "lstat64",
    "newfstatat", "fstatat64", "statx", "fstatfs", "fstatfs64", "lseek", "_llseek", "ftruncate",
    "ftruncate64", "rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat",
    "access", "faccessat", "faccessat2", "fcntl", "fcntl64", "flock", "fsync", "fdatasync",
    "getdents64", "readlink", "readlinkat", "umask", "dup", "pipe2",
    // memory and threads; clone() itself below
    "mmap", "mmap2", "munmap", "mremap", "mprotect", "madvise", "brk", "futex", "futex_time64",
    "set_robust_list", "rseq", "sched_yield", "sched_getaffinity", "sched_setaffinity",
    "membarrier", "prlimit64", "getrlimit", "ugetrlimit", "set_tid_address", "arch_prctl",
    // who we are, and a child that has ended
    "getpid", "gettid", "getuid", "getuid32", "geteuid", "geteuid32", "getgid", "getgid32",
    "getegid", "getegid32", "uname", "sysinfo", "prctl", "capget", "wait4", "waitid",
    // the end
    "exit", "exit_group", "tgkill"};

constexpr const char* kRightsCalls[] = {
    "recvmsg", "recvfrom", "recv", "sendmsg", "sendto", "send", "setsockopt", "close",
    "brk", "munmap", "mremap", "restart_syscall", "rt_sigreturn", "sigreturn", "exit",
    "exit_group"};

constexpr const char* kStartsPrograms[] = {"execve", "execveat"};

constexpr const char* kForeign[] = {
    "ptrace", "process_vm_readv", "process_vm_writev", "init_module",
    "finit_module", "delete_module", "kexec_load", "kexec_file_load", "bpf", "perf_event_open",
    "mount", "umount2", "pivot_root", "chroot", "setns", "unshare", "open_by_handle_at",
    "userfaultfd", "keyctl", "add_key", "request_key", "reboot", "swapon", "swapoff"};

// Of clone()'s arguments the one that is its flags.
#ifdef __s390__
constexpr unsigned kCloneFlags = 1;
#else
constexpr unsigned kCloneFlags = 0;
#endif

constexpr int kFamilies[] = {AF_INET, AF_INET6, AF_UNIX, AF_NETLINK};

// The first error stays: what follows it is not added.
class Filter {
 public:
  explicit Filter(uint32_t otherwise) : filter_(seccomp_init(otherwise)) {
    if (filter_ == nullptr) error_ = -ENOMEM;
  }
  ~Filter() {
    if (filter_ != nullptr) seccomp_release(filter_);
  }
  Filter(const Filter&) = delete;
  Filter& operator=(const Filter&) = delete;

  void add(uint32_t action, std::span<const char* const> names) {
    for (const char* name : names) {
      const int number = seccomp_syscall_resolve_name(name);
      if (number != __NR_SCMP_ERROR && error_ == 0) {
        error_ = seccomp_rule_add(filter_, action, number, 0);
      }
    }
  }
  void allow(int number, const scmp_arg_cmp& argument) {
    if (number == __NR_SCMP_ERROR || error_ != 0) return;
    error_ = seccomp_rule_add(filter_, SCMP_ACT_ALLOW, number, 1, argument);
  }
  // 0 or a negative errno.
  int load() {
    if (error_ == 0) error_ = seccomp_load(filter_);
    return error_;
  }

 private:
  scmp_filter_ctx filter_;
  int error_ = 0;
};

// Threads for names are made with clone(); clone3() has its flags where a filter cannot see them,
// and the C library takes the other when it is told that there is none.
int load_client() {
  Filter filter(SCMP_ACT_ERRNO(EPERM));
  filter.add(SCMP_ACT_ALLOW, kClientCalls);
  filter.add(SCMP_ACT_KILL_PROCESS, kStartsPrograms);
  filter.add(SCMP_ACT_KILL_PROCESS, kForeign);
  filter.add(SCMP_ACT_ERRNO(ENOSYS), std::array{"clone3"});
  for (const int family : kFamilies) {
    filter.allow(SCMP_SYS(socket), SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(family)));
  }
  filter.allow(SCMP_SYS(clone),
               SCMP_CMP64(kCloneFlags, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
  return filter.load();
}

int load_rights() {
  Filter filter(SCMP_ACT_ERRNO(EPERM));
  filter.add(SCMP_ACT_ALLOW, kRightsCalls);
  for (const char* name : {"mmap", "mmap2"}) {  // memory, but none for programs
    filter.allow(seccomp_syscall_resolve_name(name), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
  }
  filter.add(SCMP_ACT_KILL_PROCESS, kStartsPrograms);
  filter.add(SCMP_ACT_KILL_PROCESS, kForeign);
  return filter.load();
}

int load_scripts() {
  Filter filter(SCMP_ACT_ALLOW);
  filter.add(SCMP_ACT_ERRNO(EPERM), kForeign);
  return filter.load();
}

int load(Sandbox sandbox) {
  switch (sandbox) {
    case Sandbox::client: return load_client();
    case Sandbox::rights: return load_rights();
    case Sandbox::scripts: return load_scripts();
  }
  return -EINVAL;
}

}  // namespace

// A kernel knows more ways to change files the younger it is: what it does not know, it cannot be
// asked to refuse.
bool confine_files(std::span<const std::string> writable_directories, std::string& refusal) {
  const auto refuse = [&refusal](const char* what) {
    refusal = std::string(what) + ": " + std::strerror(errno);
    return false;
  };
  constexpr uint64_t kInDirectory = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                                    LANDLOCK_ACCESS_FS_MAKE_REG;
  constexpr uint64_t kNowhere = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
                                LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR |
                                LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
                                LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM;
  constexpr uint64_t kTruncate = uint64_t{1} << 14;  // of version 3
  const long version = syscall(SYS_landlock_create_ruleset, nullptr, 0,
                               LANDLOCK_CREATE_RULESET_VERSION);
  if (version < 1) return refuse("files are not confined");
  const uint64_t in_directory = kInDirectory | (version >= 3 ? kTruncate : 0);
  const landlock_ruleset_attr handled{in_directory | kNowhere};
  const FileDescriptor rules(static_cast<int>(
      syscall(SYS_landlock_create_ruleset, &handled, sizeof handled.handled_access_fs, 0)));
  if (!rules.is_open()) return refuse("files are not confined");
  for (const std::string& path : writable_directories) {
    const FileDescriptor directory(open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!directory.is_open()) continue;  // where nothing can be kept either
    const landlock_path_beneath_attr rule{in_directory, directory.get()};
    if (syscall(SYS_landlock_add_rule, rules.get(), LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0) {
      return refuse("files are not confined");
    }
  }
  if (syscall(SYS_landlock_restrict_self, rules.get(), 0) != 0) {
    return refuse("files are not confined");
  }
  return true;
}

std::span<const char* const> calls_of_client() { return kClientCalls; }

bool enter_sandbox(Sandbox sandbox, std::string& refusal) {
  const int error = load(sandbox);
  if (error != 0) refusal = std::string("system calls are not filtered: ") + std::strerror(-error);
  return error == 0;
}

}  // namespace adit::client

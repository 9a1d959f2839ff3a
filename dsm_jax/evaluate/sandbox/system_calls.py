"""Numbers of the system calls that a program in the sandbox may make, on x86_64 and on aarch64.

Each entry is "name x86_64 aarch64", "-" where the architecture has no such call. PLAIN ones are allowed whatever their
arguments, RULED ones under the conditions of seccomp.py. Left out on purpose: all others, so that a call nobody here has
thought of is refused: other processes (fork, execve, ptrace, process_vm_*, pidfd_*), namespaces and mounts, sockets, owners and modes
of files, links, shared memory, keys, bpf, io_uring, userfaultfd, perf events, and whatever Linux gains next.
"""

PLAIN = """
read 0 63, write 1 64, readv 19 65, writev 20 66, pread64 17 67, pwrite64 18 68, preadv 295 69,
pwritev 296 70, lseek 8 62, close 3 57, close_range 436 436, dup 32 23, dup2 33 -, dup3 292 24,
pipe 22 -, pipe2 293 59, sendfile 40 71, fstat 5 80, stat 4 -, lstat 6 -, newfstatat 262 79,
statx 332 291, statfs 137 43, fstatfs 138 44, access 21 -, faccessat 269 48, faccessat2 439 439,
readlink 89 -, readlinkat 267 78, getdents64 217 61, getcwd 79 17, chdir 80 49, fchdir 81 50,
mkdir 83 -, mkdirat 258 34, rmdir 84 -, unlink 87 -, unlinkat 263 35, rename 82 -, renameat 264 38,
renameat2 316 276, ftruncate 77 46, fsync 74 82, fdatasync 75 83, flock 73 32, umask 95 166,
poll 7 -, ppoll 271 73, select 23 -, pselect6 270 72, epoll_create1 291 20, epoll_ctl 233 21,
epoll_wait 232 -, epoll_pwait 281 22, epoll_pwait2 441 441, eventfd2 290 19, recvfrom 45 207,
mmap 9 222, munmap 11 215, mprotect 10 226, mremap 25 216, madvise 28 233, brk 12 214,
rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, rt_sigpending 127 136,
rt_sigtimedwait 128 137, rt_sigsuspend 130 133, sigaltstack 131 132, pause 34 -,
restart_syscall 219 128, clock_gettime 228 113, clock_getres 229 114, clock_nanosleep 230 115,
nanosleep 35 101, gettimeofday 96 169, time 201 -, times 100 153, getitimer 36 102,
setitimer 38 103, alarm 37 -, getpid 39 172, getppid 110 173, gettid 186 178, getuid 102 174,
geteuid 107 175, getgid 104 176, getegid 108 177, getresuid 118 148, getresgid 120 150,
getgroups 115 158, getpgrp 111 -, getpgid 121 155, getsid 124 156, uname 63 160, sysinfo 99 179,
getrusage 98 165, getrlimit 97 163, getrandom 318 278, getcpu 309 168, sched_yield 24 124,
sched_getaffinity 204 123, sched_getparam 143 121, sched_getscheduler 145 120, exit 60 93,
exit_group 231 94, wait4 61 260, waitid 247 95, futex 202 98, futex_waitv 449 449,
set_robust_list 273 99, get_robust_list 274 100, rseq 334 293, membarrier 324 283
"""

RULED = """
clone 56 220, clone3 435 435, open 2 -, openat 257 56, kill 62 129, tgkill 234 131,
prlimit64 302 261, socketpair 53 199, sendto 44 206, fcntl 72 25, ioctl 16 29
"""


def numbers(table: str, machine: str) -> dict[str, int]:
    """Name -> number, of the calls that the machine ("x86_64", "aarch64") has."""
    column = ("x86_64", "aarch64").index(machine) + 1
    rows = [entry.split() for entry in table.strip().replace("\n", " ").split(", ")]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}

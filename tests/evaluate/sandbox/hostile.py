"""Programs that try to get out, to stay, to pass for successful, or to take the server with them.

Each prints ESCAPED where it succeeds. {name} is replaced by what the session tells: a secret's file, a listening port, ...
"""

from dataclasses import dataclass

TIMEOUT_S = 0.7  # of programs that stay


@dataclass(frozen=True)
class Hostile:
    """status: those it may end with, separated by spaces."""

    status: str
    code: str


# Calls that must fail, by number (x86_64), with harmless arguments: were they allowed, most would return something else than -1.
RAW = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def refused(number, *arguments):
    result = libc.syscall(number, *arguments)
    if result != -1 or ctypes.get_errno() not in (1, 38):
        print("ESCAPED", number, result, ctypes.get_errno())
"""

PROGRAMS = {
    # Too much of everything.
    "fork bomb": Hostile("error", "import os\nwhile True: os.fork()"),
    "fork by other calls": Hostile(
        "ok", RAW + "refused(57)\nrefused(58)\nrefused(56, 17, 0, 0, 0, 0)\nrefused(435, b'\\0' * 88, 88)"
    ),
    "thread bomb": Hostile(
        "error memory timeout killed",
        "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
    ),
    "threads that never end": Hostile(
        "timeout", "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()"
    ),
    "memory bomb": Hostile("memory", "a = []\nwhile True: a.append(bytearray(10_000_000))"),
    "memory bomb of a list": Hostile("memory", "a = [0]\nwhile True: a += a"),
    "memory by mmap": Hostile("error", "import mmap\nmmap.mmap(-1, 8 << 30)\nprint('ESCAPED')"),
    "memory by numpy": Hostile("memory", "import numpy\nnumpy.ones(10**9)\nprint('ESCAPED')"),
    "memory by pipes": Hostile(
        "error", "import os, fcntl\nfor _ in range(9): fcntl.fcntl(os.pipe()[1], 1031, 1 << 20)"
    ),
    "disk bomb": Hostile("error", "f = open('big', 'wb')\nwhile True: f.write(bytes(1 << 20))"),
    "disk bomb of files": Hostile(
        "error timeout", "i = 0\nwhile True:\n    open(f'{i}', 'w').write('a' * 1_000_000)\n    i += 1"
    ),
    "deep folders": Hostile(
        "error timeout", "import os\nwhile True:\n    os.mkdir('a' * 200)\n    os.chdir('a' * 200)"
    ),
    "output bomb": Hostile("output", "while True: print('a' * 1000)"),
    "stderr bomb": Hostile("output", "import sys\nwhile True: print('a' * 1000, file=sys.stderr)"),
    "output by descriptor": Hostile("output", "import os\nwhile True: os.write(1, bytes(1 << 16))"),
    "a long error": Hostile("error", "raise ValueError('a' * 10_000_000)"),
    "open files": Hostile("error", "f = []\nwhile True: f.append(open('/dev/null'))"),
    "raised limits": Hostile(
        "ok",
        "import resource as r\n"
        "for kind in (r.RLIMIT_AS, r.RLIMIT_CPU, r.RLIMIT_FSIZE, r.RLIMIT_NOFILE, r.RLIMIT_CORE):\n"
        "    try: r.setrlimit(kind, (r.RLIM_INFINITY, r.RLIM_INFINITY)); print('ESCAPED')\n"
        "    except (ValueError, OSError): pass",
    ),
    "deep recursion": Hostile(
        "error memory killed timeout",
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(n): return f(n + 1) + 1\nf(0)",
    ),
    "overflow of the C stack": Hostile(
        "killed ok",  # Python 3.12 stops it
        "import ctypes\nlibc = ctypes.CDLL(None)\nF = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)\n"
        "import sys\nsys.setrecursionlimit(10**9)\nimport array\n"
        "def f(a, b):\n    libc.qsort(ctypes.create_string_buffer(8), 2, 4, F(f))\n    return 0\nf(0, 0)",
    ),
    "huge integers": Hostile("timeout", "print(9**9**9)"),
    "power tower of sympy": Hostile("timeout", "import sympy\nprint(sympy.Integer(9)**(9**9) % 7)\n"),
    "endless generator": Hostile("timeout", "sum(iter(int, 1))"),
    "sleep": Hostile("timeout", "import time\ntime.sleep(1e6)"),
    "short sleeps": Hostile("timeout", "import time\nwhile True: time.sleep(1e-6)"),
    "all signals ignored": Hostile(
        "timeout",
        "import signal\n"
        "for n in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(n, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\nwhile True: pass",
    ),
    "stops itself": Hostile("timeout", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)"),
    # Network.
    "tcp": Hostile(
        "error", "import socket\nsocket.create_connection(('127.0.0.1', {port}))\nprint('ESCAPED')"
    ),
    "tcp by number": Hostile(
        "ok", RAW + "refused(41, 2, 1, 0)\nrefused(41, 10, 1, 0)\nrefused(41, 16, 3, 0)"
    ),
    "udp": Hostile(
        "error",
        "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))\n"
        "print('ESCAPED')",
    ),
    "unix socket": Hostile(
        "error", "import socket\nsocket.socket(socket.AF_UNIX).connect('{folder}/socket')\nprint('ESCAPED')"
    ),
    "abstract socket": Hostile(
        "error", "import socket\nsocket.socket(socket.AF_UNIX).connect('\\0{abstract}')\nprint('ESCAPED')"
    ),
    "a pair's other address": Hostile(
        "ok",
        "import socket\na, b = socket.socketpair(type=socket.SOCK_DGRAM)\n"
        "for use in (lambda: a.sendto(b'x', '\\0{abstract}'), lambda: a.connect('\\0{abstract}'), lambda: a.bind('x'),\n"
        "            lambda: socket.send_fds(a, [b'x'], [0])):\n"
        "    try: use(); print('ESCAPED')\n    except OSError: pass",
    ),
    "name lookup": Hostile("error", "import urllib.request\nurllib.request.urlopen('http://example.com')"),
    # Files.
    "reads files": Hostile(
        "ok",
        "for path in ('/etc/shadow', '/etc/passwd', '{folder}/secret', '{project}/setup.py', '/proc/self/maps',\n"
        "             '/proc/1/environ', '/proc/self/mem', '/sys/kernel/mm/transparent_hugepage/enabled', '/dev/kmsg'):\n"
        "    try: open(path, 'rb').read(1); print('ESCAPED', path)\n    except OSError: pass",
    ),
    "lists folders": Hostile(
        "ok",
        "import os\nfor path, name in (('/', 'home'), ('/etc', 'passwd'), ('/proc', 'self'), ('/dev', 'shm'), ('/tmp/..', 'home'),\n"
        "                   ('{folder}', 'secret'), ('{project}', 'tests')):\n"
        "    try:\n        if name in os.listdir(path): print('ESCAPED', path)\n    except OSError: pass",
    ),
    "writes files": Hostile(
        "ok",
        "import os, sympy\n"
        "for path in ('{folder}/secret', '{folder}/new', '/opt/new', '/dev/shm/new', '/new', sympy.__file__,\n"
        "             os.path.dirname(os.__file__) + '/new.py', os.__file__, '../new'):\n"
        "    for mode in ('ab', 'r+b', 'xb'):\n"
        "        try: open(path, mode); print('ESCAPED', path)\n        except OSError: pass",
    ),
    "changes files by name": Hostile(
        "ok",
        "import os\npath = '{folder}/secret'\n"
        "for use in (lambda: os.chmod(path, 0), lambda: os.truncate(path, 0), lambda: os.utime(path, (0, 0)),\n"
        "            lambda: os.unlink(path), lambda: os.rename(path, path + '2'), lambda: os.rename(path, 'mine'),\n"
        "            lambda: os.open(path, os.O_TRUNC), lambda: os.open(os.__file__, os.O_TRUNC),\n"
        "            lambda: os.chown(path, 1, 1), lambda: os.mkdir(path + '3'), lambda: os.setxattr(path, 'user.a', b'1')):\n"
        "    try: use(); print('ESCAPED')\n    except OSError: pass",
    ),
    "symbolic and hard links": Hostile(
        "ok",
        "import os\nfor link in (os.symlink, os.link):\n"
        "    try:\n        link('{folder}/secret', 'mine')\n        open('mine').read()\n        print('ESCAPED')\n"
        "    except OSError: pass",
    ),
    "fifos and devices": Hostile(
        "ok",
        "import os, stat\nfor use in (lambda: os.mkfifo('f'), lambda: os.mknod('d', stat.S_IFBLK | 0o600, os.makedev(254, 0))):\n"
        "    try: use(); print('ESCAPED')\n    except OSError: pass",
    ),
    "executes": Hostile(
        "ok",
        "import os, subprocess\n"
        "for use in (lambda: os.execv('/bin/sh', ['sh', '-c', 'echo ESCAPED']), lambda: os.system('echo ESCAPED'),\n"
        "            lambda: subprocess.run(['/bin/echo', 'ESCAPED']), lambda: os.posix_spawn('/bin/echo', ['echo', 'ESCAPED'], {}),\n"
        "            lambda: os.execv(os.__file__, ['x'])):\n"
        "    try: use()\n    except OSError: pass",
    ),
    "a process that outlives": Hostile(
        "error",
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(60)",
    ),
    "processes of multiprocessing": Hostile(
        "error", "import multiprocessing\nmultiprocessing.Process(target=print, args=('ESCAPED',)).start()"
    ),
    "shared memory": Hostile(
        "ok",
        RAW
        + "refused(29, 1, 4096, 0o1600)\nrefused(64, 1, 1, 0o1600)\nrefused(68, 1, 0o1600)\nrefused(319, b'x', 0)\n"
        "from multiprocessing import shared_memory\n"
        "try: shared_memory.SharedMemory('left', create=True, size=10); print('ESCAPED')\nexcept OSError: pass",
    ),
    "terminal": Hostile(
        "ok",
        "import fcntl, termios\n"
        "for use in (lambda: open('/dev/tty'), lambda: fcntl.ioctl(0, termios.TIOCSTI, b'x')):\n"
        "    try: use(); print('ESCAPED')\n    except OSError: pass",
    ),
    # Other processes.
    "signals": Hostile(
        "ok",
        "import os, signal\n"
        "for pid in (os.getppid(), 1, -1, 0, -os.getppid(), *{pids}):\n"
        "    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGINT, signal.SIGTERM):\n"
        "        try: os.kill(pid, number); print('ESCAPED', pid)\n        except OSError: pass",
    ),
    "signals to every number": Hostile(
        "ok timeout",
        "import os\nfor pid in range(1, 70_000):\n    if pid != os.getpid():\n"
        "        try: os.kill(pid, 9); print('ESCAPED', pid)\n        except OSError: pass",
    ),
    "signals by other calls": Hostile(
        "ok",
        RAW + "import os\nfor pid in {pids}:\n"
        "    refused(200, pid, 9)\n    refused(234, pid, pid, 9)\n    refused(129, pid, 9, b'\\0' * 128)\n    refused(424, 0, 9, 0, 0)\n"
        "import fcntl\nr, w = os.pipe()\n"
        "for command in (8, 10, 15):\n"
        "    try: fcntl.fcntl(r, command, {pids}[0]); print('ESCAPED')\n    except OSError: pass\n"
        "try: fcntl.ioctl(r, 0x8901, {pids}[0].to_bytes(4, 'little')); print('ESCAPED')\nexcept OSError: pass",
    ),
    "ptrace": Hostile(
        "ok", RAW + "import os\nrefused(101, 0, 0, 0, 0)\nfor pid in {pids}: refused(101, 16, pid, 0, 0)"
    ),
    "memory of others": Hostile(
        "ok",
        RAW
        + "for pid in {pids}:\n    for number in (310, 311): refused(number, pid, 0, 0, 0, 0, 0)\n    refused(438, pid, 0, 0)\n"
        "    refused(312, pid, pid, 0, 0, 0)",
    ),
    "limits and priorities of others": Hostile(
        "ok",
        "import os, resource\n"
        "for use in (lambda p: resource.prlimit(p, resource.RLIMIT_NOFILE, (1, 1)), lambda p: os.sched_setaffinity(p, {{0}}),\n"
        "            lambda p: os.setpriority(os.PRIO_PROCESS, p, 19), lambda p: os.pidfd_open(p)):\n"
        "    for pid in (os.getppid(), 1, *{pids}):\n"
        "        try: use(pid); print('ESCAPED')\n        except OSError: pass",
    ),
    "namespaces and mounts": Hostile(
        "ok",
        RAW
        + "for flag in (0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000): refused(272, flag)\n"
        "refused(308, 0, 0)\nrefused(165, b'x', b'/tmp', b'tmpfs', 0, 0)\nrefused(166, b'/tmp', 2)\nrefused(161, b'/tmp')\n"
        "refused(155, b'.', b'.')\nrefused(428, -100, b'/', 1)\nrefused(442, -100, b'/', 0, b'\\0' * 32, 32)",
    ),
    "other rights": Hostile(
        "ok",
        RAW
        + "refused(105, 0)\nrefused(106, 0)\nrefused(117, 0, 0, 0)\nrefused(126, b'\\0' * 8, b'\\0' * 24)\nrefused(116, 0, 0)\n"
        "refused(157, 4, 1, 0, 0, 0)\nrefused(157, 22, 0, 0, 0, 0)\nrefused(317, 0, 0, 0)",
    ),
    "other doors to the kernel": Hostile(
        "ok",
        RAW
        + "for number in (246, 320, 175, 313, 248, 249, 250, 321, 298, 323, 425, 426, 427, 304, 303, 163, 167, 169, 172, 173,\n"
        "               170, 171, 159, 227, 305, 103, 139, 153, 154, 180, 212, 135, 156, 447, 462, 600): refused(number, 0, 0, 0, 0, 0)\n"
        "refused(0x40000000 + 41, 2, 1, 0)\nrefused(59, b'/bin/sh', 0, 0)\nrefused(322, -100, b'/bin/sh', 0, 0, 0)",
    ),
    # Success that is none, and secrets.
    "leaves with 0": Hostile("exited", "import os\nprint('all tests passed')\nos._exit(0)\nassert False"),
    "leaves by sys.exit": Hostile("exited", "import sys\nsys.exit(0)\nassert False"),
    "leaves from a thread": Hostile(
        "exited",
        "import os, threading, time\nthreading.Thread(target=os._exit, args=(0,)).start()\ntime.sleep(9)",
    ),
    "leaves by a call": Hostile("exited", "import ctypes\nctypes.CDLL(None).exit(0)\nassert False"),
    "writes into every descriptor": Hostile(
        "exited",
        "import os\n"
        "for fd in range(3, 1024):\n"
        "    for forged in (b'o', bytes(16) + b'o', b'ok', b'{{\"status\": \"ok\"}}'):\n"
        "        try: os.write(fd, forged)\n        except OSError: pass\n"
        "os._exit(0)",
    ),
    "looks for secrets": Hostile(
        "exited",
        "import gc, os, sys\nseen, frame = [], sys._getframe()\n"
        "while frame: seen += frame.f_locals.values(); frame = frame.f_back\n"
        "for one in gc.get_objects(): seen += [r for r in gc.get_referents(one) if type(r) is bytes and len(r) == 16]\n"
        "for token in {{s for s in seen if type(s) is bytes}}:\n"
        "    try: os.write(3, token + b'o')\n    except OSError: pass\n"
        "os._exit(0)",
    ),
    "looks for the server": Hostile(
        "ok",
        "import gc, socket, sys\n"
        "if [o for o in gc.get_objects() if isinstance(o, socket.socket) and o.fileno() >= 0]: print('ESCAPED')\n"
        "if any(name.startswith('dsm_jax') for name in sys.modules): print('ESCAPED')",
    ),
    "environment": Hostile(
        "ok",
        "import os, ctypes\nif os.environ: print('ESCAPED', os.environ)\n"
        "if ctypes.CDLL(None).getenv(b'DSM_SECRET'): print('ESCAPED')",
    ),
    "closes everything": Hostile("exited", "import os\nos.closerange(0, 1024)"),
    "closes everything and stays": Hostile("timeout", "import os\nos.closerange(0, 1024)\nwhile True: pass"),
    "standard input": Hostile(
        "ok",
        "import os, sys\nos.lseek(0, 0, 0)\n"
        "for use in (lambda: os.write(0, b'x'), lambda: os.ftruncate(0, 1 << 30)):\n"
        "    try: use(); print('ESCAPED')\n    except OSError: pass\nsys.stdin.close()",
    ),
    # The end of a program.
    "atexit that hangs": Hostile("timeout", "import atexit, time\natexit.register(time.sleep, 1e6)"),
    "atexit that raises": Hostile("ok error", "import atexit\natexit.register(lambda: 1 / 0)"),
    "a trace function that hangs": Hostile(
        "timeout ok",
        "import sys, time\ndef t(*_): time.sleep(0.05); return t\nsys.settrace(t)\nwhile True: pass",
    ),
    "a signal at the end": Hostile(
        "error ok",
        "import signal\ndef h(*_): raise SystemError\nsignal.signal(signal.SIGALRM, h)\nsignal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-3)",
    ),
    "an exception that hangs": Hostile(
        "timeout", "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E"
    ),
    "an exception that raises": Hostile(
        "error", "class E(Exception):\n    def __str__(self): raise SystemExit(0)\nraise E"
    ),
    "a stream that raises": Hostile(
        "error",
        "import sys\nclass S:\n    closed = False\n    def flush(self): raise KeyboardInterrupt\nsys.stdout = S()",
    ),
    "no built-ins": Hostile(
        "ok error", "import builtins\nfor name in list(vars(builtins)): delattr(builtins, name)"
    ),
    "other functions": Hostile(
        "error",
        "import os, sys, traceback, io\ndef f(*a, **k): raise SystemExit(0)\n"
        "os.write = os._exit = sys.exit = traceback.format_exception = io.TextIOWrapper = sys.excepthook = f\n1/0",
    ),
    "an interrupt": Hostile("error", "raise KeyboardInterrupt"),
    "an exit code that is none": Hostile(
        "exited error", "class C(int):\n    def __and__(self, o): raise ValueError\nraise SystemExit(C(0))"
    ),
    "a crash": Hostile("killed", "import ctypes\nctypes.string_at(0)"),
    "abort": Hostile("killed", "import os\nos.abort()"),
    "a generator that does not end": Hostile(
        "timeout error",
        "def g():\n    while True:\n        try: yield\n        except GeneratorExit: pass\nx = g()\nnext(x)\ndel x\nwhile True: pass",
    ),
    "lone surrogates": Hostile("error", "print('\ud800')"),
    "NUL": Hostile("error", "print(1)\0"),
    "deep brackets": Hostile("error memory killed", "(" * 100_000 + ")" * 100_000),
    "a billion laughs of names": Hostile(
        "error memory timeout ok", "x = 'a'\n" + "x = x * 10\n" * 12 + "print(len(x))"
    ),
}

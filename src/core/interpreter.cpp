// SPDX-License-Identifier: BSD-3-Clause
// Starts the interpreter as `python3` would, takes it through the server's fork, and ends it.
//
// Hazards: finalizing while another thread is inside C++ code that has released the GIL ends the process
// (std::terminate), and waiting for a script's threads could last for ever: so neither is done. A fork copies the GIL
// in whatever state it is in, so the forking thread must hold it, and CPython's own fork steps must run.
#include "nbdkit_python/interpreter.hpp"

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>

#include "module/module.hpp"
#include "nbdkit_python/attach.hpp"

namespace nbdkit_python::interpreter {
namespace {

namespace fs = std::filesystem;

unsigned holders = 0;
const Server* first_server = nullptr;
// Never destroyed: a server that fails to start calls exit() with the interpreter running.
Package* the_package = nullptr;

std::atomic<bool> fork_expected = false;
bool forking = false;
bool kept = false;  // the GIL, by the parent of a fork that may be the server's
std::atomic<bool> is_serving = false;
std::atomic<bool> shutdown_asked = false;
pthread_t main_thread;
// The signals that end a server, and how this one handles them.
constexpr int quit_signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};
struct sigaction quit_handlers[std::size(quit_signals)];

// The folder of the `nbdkit` package: beside this library, in the build tree as when installed.
fs::path package_folder() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&package_folder), &info) == 0) return {};
  return fs::canonical(info.dli_fname).parent_path() / "nbdkit-python";
}

bool same_file(const fs::path& a, const fs::path& b) {
  std::error_code ignored;
  return fs::equivalent(a, b, ignored);
}

// The interpreter that matches libpython, or an active virtual environment's if that is its base: sys.executable,
// the packages and what the script starts by it all follow from this path.
std::string executable(const Server& server) {
  const fs::path base{NBDKIT_PYTHON_EXECUTABLE};
  const char* const environment = std::getenv("VIRTUAL_ENV");
  if (environment == nullptr || *environment == '\0') return base;
  const fs::path venv{environment};
  std::string line;
  for (std::ifstream settings{venv / "pyvenv.cfg"}; std::getline(settings, line);) {
    constexpr std::string_view key = "home = ";
    if (!line.starts_with(key)) continue;
    const auto library = std::string{"python"} + NBDKIT_PYTHON_XY;
    if (same_file(fs::path{line.substr(key.size())} / base.filename(), base) && fs::exists(venv / "lib" / library))
      return venv / "bin" / "python3";
  }
  const std::string warning = "warning: VIRTUAL_ENV=" + venv.string() +
                              " is ignored: it is not a virtual environment of " + base.string() +
                              ", the Python that this plugin runs";
  server.error(warning.c_str());
  return base;
}

// A server may have loaded the door, and so libpython, for itself alone. CPython's own extension modules look for its
// symbols among those that are for all.
void publish_libpython() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&Py_InitializeFromConfig), &info) != 0)
    dlopen(info.dli_fname, RTLD_NOLOAD | RTLD_GLOBAL | RTLD_NOW);
}

bool initialize(const Server& server) {
  publish_libpython();
  PyImport_AppendInittab("_nbdkit", module_init);
  PyConfig config;
  PyConfig_InitPythonConfig(&config);
  config.parse_argv = 0;
  // Signals are the server's, but for two that are errors in Python: a closed pipe and too large a file.
  config.install_signal_handlers = 0;
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  PyStatus status = PyConfig_SetBytesString(&config, &config.executable, executable(server).c_str());
  if (!PyStatus_Exception(status)) status = Py_InitializeFromConfig(&config);
  PyConfig_Clear(&config);
  if (!PyStatus_Exception(status)) return true;
  const std::string message =
      std::string{"cannot start Python: "} + (status.err_msg ? status.err_msg : "unknown error");
  server.error(message.c_str());
  return false;
}

// Imports the package, from its own folder whatever else is called nbdkit. The folder stays on sys.path for the
// processes that a script starts.
bool import_package(const Server& server, const fs::path& folder) {
  auto package = std::make_unique<Package>();
  PyObject* const path = PySys_GetObject("path");
  const Ref entry = Ref::take(PyUnicode_DecodeFSDefault(folder.c_str()));
  if (path == nullptr || !entry || PyList_Insert(path, 0, entry.get()) == -1) return false;
  const Ref errors = Ref::take(PyImport_ImportModule("nbdkit._errors"));
  if (!errors) return false;
  package->error = Ref::take(PyObject_GetAttrString(errors.get(), "Error"));
  package->script_error = Ref::take(PyObject_GetAttrString(errors.get(), "ScriptError"));
  package->script = Ref::take(PyImport_ImportModule("nbdkit._script"));
  package->process = Ref::take(PyImport_ImportModule("nbdkit._process"));
  if (!package->error || !package->script_error || !package->script || !package->process) return false;
  const bool safe = server.stdio_safe == nullptr || server.stdio_safe() != 0;
  const Ref started = Ref::take(PyObject_CallMethod(package->process.get(), "start", "O", safe ? Py_True : Py_False));
  if (!started) return false;
  the_package = package.release();
  return true;
}

// A function of nbdkit._process whose failure nobody could act on.
template <typename... Arguments>
void call_process(const char* name, const char* format = nullptr, Arguments... arguments) noexcept {
  if (!Ref::take(PyObject_CallMethod(the_package->process.get(), name, format, arguments...))) PyErr_Clear();
}

// A fork by the script, once the server serves. A signal must not meet the server's handler in the child: that tells
// the server of it, through a pipe that both have. So none comes in before the handlers are gone. The GIL is held.
struct {
  bool going_on = false;
  sigset_t mask;
} script_fork;

void before_script_fork() noexcept {
  sigset_t blocked;
  sigemptyset(&blocked);
  for (const int number : quit_signals) sigaddset(&blocked, number);
  pthread_sigmask(SIG_BLOCK, &blocked, &script_fork.mask);
  script_fork.going_on = true;
}

void after_script_fork() noexcept {
  script_fork.going_on = false;
  pthread_sigmask(SIG_SETMASK, &script_fork.mask, nullptr);
}

// The child is no server: its client is the parent's.
void in_script_child() noexcept {
  Thread& thread = Thread::current();
  thread.forked = thread.call != nullptr;
  for (std::size_t i = 0; i < std::size(quit_signals); ++i) {
    struct sigaction now = {};
    sigaction(quit_signals[i], nullptr, &now);
    // A handler of the script's own stays.
    if (now.sa_handler == quit_handlers[i].sa_handler && now.sa_handler != SIG_IGN) signal(quit_signals[i], SIG_DFL);
  }
  after_script_fork();
}

void before_fork() {
  if (is_serving && PyGILState_Check() != 0) before_script_fork();
  if (!fork_expected || pthread_equal(pthread_self(), main_thread) == 0) return;
  // Where the GIL has been kept, more depth than that is the script's.
  forking = kept ? Thread::current().depth == 1 : threads::attach_for_fork();
  if (forking && !kept) PyOS_BeforeFork();
}

// If the fork was the server's, the parent only waits or exits. It keeps the GIL, so that the script's threads, which
// are not in the child, stand still in it. If it was another plugin's or filter's, forked() will tell.
void after_fork_in_parent() {
  if (script_fork.going_on && PyGILState_Check() != 0) after_script_fork();
  if (!forking) return;
  forking = false;
  kept = true;
}

void after_fork_in_child() {
  if (script_fork.going_on && PyGILState_Check() != 0) in_script_child();
  if (!forking) return;
  forking = kept = fork_expected = false;
  PyOS_AfterFork_Child();
  call_process("forked");
  threads::detach_after_fork();
}

}  // namespace

const char* build() noexcept { return NBDKIT_PYTHON_BUILD; }

bool hold(const Server& server) noexcept {
  if (holders > 0) {
    ++holders;
    return true;
  }
  if (Py_IsInitialized() != 0) {
    server.error("cannot start Python: another plugin or filter of this server has started one already");
    return false;
  }
  first_server = &server;
  main_thread = pthread_self();
  if (!initialize(server)) return false;
  const fs::path folder = package_folder();
  if (!import_package(server, folder)) {
    PyErr_Print();
    const std::string message = "cannot import the package nbdkit from " + folder.string();
    server.error(message.c_str());
    return false;
  }
  threads::open();
  pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
  holders = 1;
  return true;
}

void release() noexcept {
  if (--holders > 0) return;
  threads::close();
  // This thread stays attached: after its last words here, no other may run Python any more.
  PyEval_RestoreThread(Thread::current().state);
  // What this runs may start threads.
  call_process("leave");
  if (threads::others()) return;
  delete the_package;
  the_package = nullptr;
  if (Py_FinalizeEx() != 0) first_server->debug("Python could not write out all that was printed");
}

const Server& server() noexcept { return *first_server; }
const Package& package() noexcept { return *the_package; }
PyObject* loop() noexcept { return PyDict_GetItemString(PyImport_GetModuleDict(), "nbdkit._loop"); }

void expect_fork() noexcept { fork_expected = true; }

void forked() noexcept {
  // With two doors in the server, the first one's word is enough.
  if (is_serving) return;
  fork_expected = false;
  if (std::exchange(kept, false)) {
    PyOS_AfterFork_Parent();
    threads::detach_after_fork();
  }
  for (std::size_t i = 0; i < std::size(quit_signals); ++i) sigaction(quit_signals[i], nullptr, &quit_handlers[i]);
  is_serving = true;
  {
    const Attach attach;
    call_process("serving");
  }
  if (shutdown_asked) first_server->shutdown();
}

bool serving() noexcept { return is_serving; }

void shutdown() noexcept {
  // Before it serves, the server has no pipe to be told by yet.
  if (is_serving)
    first_server->shutdown();
  else
    shutdown_asked = true;
}

void ran(PyObject* callback) noexcept { call_process("ran", "O", callback); }

void flush() noexcept { call_process("flush"); }

}  // namespace nbdkit_python::interpreter

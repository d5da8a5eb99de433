// SPDX-License-Identifier: BSD-3-Clause
// The interpreter's start, what it finds around it, and its years of service.
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "child.hpp"
#include "fake_server.hpp"
#include "nbdkit_python/interpreter.hpp"

namespace nbdkit_python::test {
namespace {

// A folder of the test's own, and Python code that is told where it is.
class StartTest : public testing::Test {
 protected:
  StartTest() {
    // Of the person who runs the tests.
    for (const char* const variable : {"VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH", "PYTHONUNBUFFERED"})
      unsetenv(variable);
    char name[] = "/tmp/nbdkit-python-unit-XXXXXX";
    folder_ = mkdtemp(name);
  }
  ~StartTest() override { std::filesystem::remove_all(folder_); }

  std::string read(const char* name) const {
    std::ostringstream text;
    text << std::ifstream{folder_ / name}.rdbuf();
    return text.str();
  }
  // From here on this process writes there.
  void redirect_output(const char* name) const {
    std::fflush(stdout);
    ASSERT_NE(std::freopen((folder_ / name).c_str(), "w", stdout), nullptr);
  }

  std::filesystem::path folder_;
};

TEST_F(StartTest, IsCounted) {
  in_child([] {
    EXPECT_FALSE(Py_IsInitialized());
    ASSERT_TRUE(interpreter::hold(fake_server()));
    EXPECT_TRUE(Py_IsInitialized());
    EXPECT_EQ(PyGILState_Check(), 0) << "the thread is left detached";
    EXPECT_EQ(&interpreter::server(), &fake_server());
    EXPECT_TRUE(python("kept = 1"));

    ASSERT_TRUE(interpreter::hold(bare_server()));
    EXPECT_EQ(&interpreter::server(), &fake_server()) << "the first holder's";
    interpreter::release();
    EXPECT_TRUE(Py_IsInitialized());
    EXPECT_TRUE(python("assert kept == 1"));

    interpreter::release();
    EXPECT_FALSE(Py_IsInitialized());
    EXPECT_TRUE(fake().errors.empty()) << fake().errors.front();
  });
}

TEST_F(StartTest, KnowsItsBuild) { EXPECT_STREQ(interpreter::build(), NBDKIT_PYTHON_BUILD); }

TEST_F(StartTest, IsNotTheFirst) {
  in_child([] {
    Py_InitializeEx(0);
    EXPECT_FALSE(interpreter::hold(fake_server()));
    ASSERT_EQ(fake().errors.size(), 1U);
    EXPECT_EQ(fake().errors[0], "cannot start Python: another plugin or filter of this server has started one already");
  });
}

TEST_F(StartTest, CannotStart) {
  in_child([this] {
    setenv("PYTHONHOME", folder_.c_str(), 1);
    ASSERT_NE(std::freopen("/dev/null", "w", stderr), nullptr);
    EXPECT_FALSE(interpreter::hold(fake_server()));
    ASSERT_EQ(fake().errors.size(), 1U);
    EXPECT_TRUE(fake().errors[0].starts_with("cannot start Python: ")) << fake().errors[0];
  });
}

TEST_F(StartTest, LeavesSignalsToTheServer) {
  in_child([] {
    constexpr int servers[] = {SIGINT, SIGTERM, SIGQUIT, SIGHUP};
    constexpr int errors[] = {SIGPIPE, SIGXFSZ};
    for (const int number : servers) std::signal(number, SIG_DFL);
    for (const int number : errors) std::signal(number, SIG_DFL);
    ASSERT_TRUE(interpreter::hold(fake_server()));
    for (const int number : servers) EXPECT_EQ(std::signal(number, SIG_DFL), SIG_DFL) << number;
    EXPECT_TRUE(
        python("import os\n"
               "reader, writer = os.pipe()\n"
               "os.close(reader)\n"
               "try: os.write(writer, b'x')\n"
               "except BrokenPipeError: pass\n"
               "else: raise AssertionError\n"));
    for (const int number : errors) EXPECT_EQ(std::signal(number, SIG_IGN), SIG_IGN) << number;
    interpreter::release();
  });
}

TEST_F(StartTest, ExecutableIsThatOfTheLibrary) {
  in_child([] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    EXPECT_TRUE(
        python("import os, subprocess, sys\n"
               "assert sys.executable == '" PYTHON_EXECUTABLE "', sys.executable\n"
               "version = [sys.executable, '-c', 'import sys; print(sys.version)']\n"
               "assert subprocess.check_output(version, text=True) == sys.version + '\\n'\n"));
    interpreter::release();
  });
}

TEST_F(StartTest, PackageIsBesideTheLibrary) {
  in_child([this] {
    // Neither of these is ours.
    std::ofstream{folder_ / "nbdkit.py"} << "raise AssertionError";
    setenv("PYTHONPATH", folder_.c_str(), 1);
    std::filesystem::current_path(folder_);
    ASSERT_TRUE(interpreter::hold(fake_server()));
    EXPECT_TRUE(
        python("import nbdkit, os, sys\n"
               "folder = os.path.dirname(os.path.dirname(nbdkit.__file__))\n"
               "assert sys.path[0] == folder and os.path.basename(folder) == 'nbdkit-python', sys.path\n"
               "assert '_nbdkit' in sys.builtin_module_names\n"));
    interpreter::release();
  });
}

// Start-up is measured: what only some scripts need is not loaded.
TEST_F(StartTest, LoadsLittle) {
  in_child([] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    EXPECT_TRUE(
        python("import sys\n"
               "many = {'inspect', 'traceback', 'difflib', 'logging', 'threading', 're'} & set(sys.modules)\n"
               "assert not many, many\n"));
    interpreter::release();
  });
}

TEST_F(StartTest, VirtualEnvironment) {
  const std::filesystem::path python_path{PYTHON_EXECUTABLE};
  const std::string version = "python" + std::to_string(PY_MAJOR_VERSION) + "." + std::to_string(PY_MINOR_VERSION);
  std::filesystem::create_directories(folder_ / "bin");
  std::filesystem::create_directories(folder_ / "lib" / version / "site-packages");
  std::filesystem::create_symlink(python_path, folder_ / "bin/python3");
  std::ofstream{folder_ / "pyvenv.cfg"} << "home = " << python_path.parent_path().string()
                                        << "\ninclude-system-site-packages = false\n";
  std::ofstream{folder_ / "lib" / version / "site-packages/only_here.py"} << "value = 7";
  setenv("VIRTUAL_ENV", folder_.c_str(), 1);
  in_child([this] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    EXPECT_TRUE(fake().errors.empty()) << fake().errors.front();
    EXPECT_TRUE(
        python("import sys, only_here\n"
               "assert sys.prefix == '" +
               folder_.string() +
               "' != sys.base_prefix, sys.prefix\n"
               "assert sys.executable == sys.prefix + '/bin/python3', sys.executable\n"));
    interpreter::release();
  });
}

TEST_F(StartTest, VirtualEnvironmentOfAnotherPython) {
  std::ofstream{folder_ / "pyvenv.cfg"} << "home = /opt/another/bin\n";
  setenv("VIRTUAL_ENV", folder_.c_str(), 1);
  in_child([this] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    ASSERT_EQ(fake().errors.size(), 1U);
    EXPECT_TRUE(fake().errors[0].starts_with("warning: VIRTUAL_ENV=" + folder_.string() + " is ignored"))
        << fake().errors[0];
    EXPECT_TRUE(
        python("import sys\nassert sys.executable == '" PYTHON_EXECUTABLE "' and sys.prefix == sys.base_prefix"));
    interpreter::release();
  });
}

TEST_F(StartTest, StandardStreamsAreTheServers) {
  static Server on_stdio = fake_server();
  on_stdio.stdio_safe = [] { return 0; };
  in_child([this] {
    redirect_output("stdout");
    ASSERT_TRUE(interpreter::hold(on_stdio));
    EXPECT_TRUE(
        python("import sys\n"
               "assert sys.stdout is sys.stderr and sys.stdin.read() == ''\n"
               "sys.__stdout__.flush()\n"
               "print(end='')\n"));
    interpreter::release();
    EXPECT_EQ(read("stdout"), "");
  });
  in_child([] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    EXPECT_TRUE(python("import sys\nassert sys.stdout is not sys.stderr and sys.stdin.fileno() == 0"));
    interpreter::release();
  });
}

TEST_F(StartTest, Flushes) {
  in_child([this] {
    redirect_output("stdout");
    ASSERT_TRUE(interpreter::hold(fake_server()));
    EXPECT_TRUE(
        python("import logging.handlers\n"
               "stream = open('" +
               (folder_ / "log").string() +
               "', 'w')\n"
               "target = logging.StreamHandler(stream)\n"
               "logging.getLogger().addHandler(logging.handlers.MemoryHandler(99, target=target))\n"
               "def say():\n"
               "    logging.warning('logged')\n"
               "    print('printed', end='')\n"));
    {
      const Attach attach;
      const Ref main = Ref::take(PyImport_ImportModule("__main__"));
      EXPECT_TRUE(Ref::take(PyObject_CallMethod(main.get(), "say", nullptr)));
      EXPECT_EQ(read("stdout") + read("log"), "");
      interpreter::flush();
    }
    EXPECT_EQ(read("stdout"), "printed");
    EXPECT_EQ(read("log"), "logged\n");
    // Streams that cannot be flushed are nobody's concern.
    for (const char* const stream :
         {"None", "object()", "open('/dev/null')", "type('S', (), {'flush': lambda s: 1 / 0})()"}) {
      EXPECT_TRUE(python(std::string{"import sys\nsys.stdout = "} + stream)) << stream;
      const Attach attach;
      interpreter::flush();
      EXPECT_EQ(PyErr_Occurred(), nullptr) << stream;
    }
    EXPECT_TRUE(python("closed = open('/dev/null')\nclosed.close()\nsys.stdout = closed"));
    {
      const Attach attach;
      interpreter::flush();
      EXPECT_EQ(PyErr_Occurred(), nullptr);
    }
    interpreter::release();
  });
}

// The server has sent standard output to /dev/null by then.
TEST_F(StartTest, PrintsToTheLogWhereItServes) {
  in_child([] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    EXPECT_TRUE(python("import sys\nassert sys.stdout is not sys.stderr"));
    interpreter::expect_fork();
    interpreter::forked();
    EXPECT_TRUE(python("assert sys.stdout is sys.stderr"));
    interpreter::release();
  });
  in_child([] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    EXPECT_TRUE(python("import io, sys\nsys.stdout = mine = io.StringIO()"));
    interpreter::expect_fork();
    interpreter::forked();
    EXPECT_TRUE(python("assert sys.stdout is mine")) << "the script's choice";
    interpreter::release();
  });
}

TEST_F(StartTest, ShutdownIsRememberedUntilItServes) {
  in_child([] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    EXPECT_TRUE(python("import nbdkit\nnbdkit.shutdown()\nnbdkit.shutdown()"));
    EXPECT_TRUE(fake().calls.empty());
    interpreter::expect_fork();
    EXPECT_FALSE(interpreter::serving());
    EXPECT_TRUE(fake().calls.empty());
    interpreter::forked();
    EXPECT_TRUE(interpreter::serving());
    EXPECT_EQ(fake().calls, std::vector<std::string>{"shutdown"});
    EXPECT_TRUE(python("nbdkit.shutdown()"));
    EXPECT_EQ(fake().calls.size(), 2U);
    interpreter::release();
  });
}

TEST_F(StartTest, NobodyAskedForAShutdown) {
  in_child([] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    interpreter::expect_fork();
    interpreter::forked();
    EXPECT_TRUE(fake().calls.empty());
    interpreter::release();
    EXPECT_TRUE(fake().calls.empty());
  });
}

TEST_F(StartTest, ServerSleepsOnceItServes) {
  in_child([] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    interpreter::expect_fork();
    interpreter::forked();
    EXPECT_TRUE(python("import nbdkit\nnbdkit.nanosleep(3000, 7)"));
    EXPECT_EQ(fake().calls, std::vector<std::string>{"nanosleep 3000 7"});
    fake().refuses = true;
    EXPECT_TRUE(
        python("import errno\n"
               "try: nbdkit.nanosleep(3000, 7)\n"
               "except OSError as error: assert error.errno == errno.ESHUTDOWN\n"
               "else: raise AssertionError\n"));
    interpreter::release();
  });
}

// A start that fails ends in exit(), without a release.
TEST_F(StartTest, ServerMayExitAtAnyTime) {
  in_child([] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    EXPECT_TRUE(
        python("import threading\n"
               "def busy():\n"
               "    while True: sum(range(1000))\n"
               "for i in range(3): threading.Thread(target=busy, daemon=i > 0).start()\n"));
  });
}

}  // namespace
}  // namespace nbdkit_python::test

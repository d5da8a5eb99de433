// SPDX-License-Identifier: BSD-3-Clause
// The server's fork, on its way into the background, and the forks that are not the server's.
#include <csignal>
#include <set>
#include <thread>

#include "child.hpp"
#include "fake_server.hpp"
#include "nbdkit_python/interpreter.hpp"

namespace nbdkit_python::test {
namespace {

// What a script may have set up by the time that the server forks. The thread holds locks that CPython and logging
// mend in the child, each in a hook of its own.
constexpr const char* hooks =
    "import os, threading\n"
    "ran = []\n"
    "os.register_at_fork(before=lambda: ran.append('before'), after_in_child=lambda: ran.append('child'),\n"
    "                    after_in_parent=lambda: ran.append('parent'))\n";
constexpr const char* busy_thread =
    "import importlib, logging, sys\n"
    "logging.getLogger().setLevel(logging.DEBUG)\n"
    "class Slow(logging.Handler):\n"
    "    def emit(self, record): sum(range(1000))\n"
    "logging.getLogger().addHandler(Slow())\n"
    "def busy():\n"
    "    while True:\n"
    "        logging.debug('busy')\n"
    "        sys.modules.pop('colorsys', None)\n"
    "        importlib.import_module('colorsys')\n"
    "threading.Thread(target=busy, daemon=True).start()\n";

// Forks as a server does: the child serves, and leaves through this; the parent waits for it.
template <typename Body>
void server_forks(const Body& body) {
  interpreter::expect_fork();
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    interpreter::forked();
    body();
    std::exit(testing::Test::HasFailure() ? EXIT_FAILURE : EXIT_SUCCESS);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(ending(status), "exit status 0");
}

// Forks in C, where that is nobody's business; the child does nothing.
void plain_fork() {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(ending(status), "exit status 0");
}

TEST(Fork, TakesPythonThrough) {
  in_child([] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    EXPECT_TRUE(python(hooks));
    server_forks([] {
      EXPECT_TRUE(python("assert ran == ['before', 'child'], ran"));
      EXPECT_TRUE(interpreter::serving());
      interpreter::release();
      EXPECT_FALSE(Py_IsInitialized());
    });
  });
}

TEST(Fork, WithABusyThread) {
  // The thread is somewhere else each time.
  for (int i = 0; i < 5; ++i)
    in_child([] {
      ASSERT_TRUE(interpreter::hold(fake_server()));
      EXPECT_TRUE(python(hooks));
      EXPECT_TRUE(python(busy_thread));
      server_forks([] {
        EXPECT_TRUE(
            python("assert ran == ['before', 'child'], ran\n"
                   "assert threading.enumerate() == [threading.main_thread()]\n"
                   "import decimal\n"
                   "logging.debug('alone')\n"
                   "thread = threading.Thread(target=ran.append, args=['thread'])\n"
                   "thread.start()\n"
                   "thread.join()\n"
                   "assert ran[2:] == ['thread']\n"));
        // The server's threads come now.
        std::thread{[] {
          EXPECT_TRUE(python("assert threading.get_ident() != threading.main_thread().ident"));
        }}.join();
        interpreter::release();
        EXPECT_FALSE(Py_IsInitialized()) << "no thread is left";
      });
    });
}

TEST(Fork, NeedsNoFork) {
  in_child([] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    EXPECT_TRUE(python(hooks));
    interpreter::expect_fork();
    interpreter::forked();
    EXPECT_TRUE(python("assert ran == [], ran"));
    interpreter::release();
    EXPECT_FALSE(Py_IsInitialized());
  });
}

TEST(Fork, OthersAreLeftAlone) {
  in_child([] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    EXPECT_TRUE(python(hooks));
    plain_fork();
    EXPECT_TRUE(python("assert ran == [], ran")) << "before the server's is expected";
    interpreter::expect_fork();
    std::thread{[] {
      plain_fork();
      EXPECT_TRUE(python("pass"));
      plain_fork();
    }}.join();
    EXPECT_TRUE(python("assert ran == [], ran")) << "in another thread";
    interpreter::forked();
    plain_fork();
    EXPECT_TRUE(python("assert ran == [], ran")) << "when the server serves";
    interpreter::release();
    EXPECT_FALSE(Py_IsInitialized());
  });
}

// Another plugin or filter forks in the main thread, for a process of its own, before the server does or instead of it.
TEST(Fork, AnothersBeforeTheServers) {
  in_child([] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    EXPECT_TRUE(python(hooks));
    interpreter::expect_fork();
    plain_fork();
    EXPECT_TRUE(python("import json, subprocess\nsubprocess.run(['true'], check=True)"));
    plain_fork();
    server_forks([] {
      EXPECT_TRUE(python("assert ran == ['before', 'child'], ran"));
      interpreter::release();
      EXPECT_FALSE(Py_IsInitialized());
    });
  });
}

TEST(Fork, AnothersInsteadOfTheServers) {
  in_child([] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    EXPECT_TRUE(python(hooks));
    EXPECT_TRUE(python(busy_thread));
    interpreter::expect_fork();
    plain_fork();
    plain_fork();
    interpreter::forked();
    // The second door's.
    interpreter::forked();
    EXPECT_TRUE(python("assert ran == ['before', 'parent'], ran"));
    std::thread{[] { EXPECT_TRUE(python("import json")); }}.join();
    interpreter::release();
  });
}

// Python sees to a script's own forks, also where the server's is expected next.
TEST(Fork, ScriptsOwn) {
  constexpr const char* forks =
      "def fork():\n"
      "    ran.clear()\n"
      "    child = os.fork()\n"
      "    if child == 0: os._exit(ran != ['before', 'child'])\n"
      "    assert os.waitpid(child, 0) == (child, 0)\n"
      "    assert ran == ['before', 'parent'], ran\n"
      "    ended.append(1)\n"
      "ended = []\n"
      "fork()\n"
      "thread = threading.Thread(target=fork)\n"
      "thread.start()\n"
      "thread.join()\n"
      "assert len(ended) == 2\n"
      "import subprocess\n"
      "subprocess.run(['true'], check=True)\n"
      "subprocess.run(['true'], check=True, preexec_fn=lambda: None)\n"
      "ran.clear()\n";
  in_child([] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    EXPECT_TRUE(python(hooks));
    EXPECT_TRUE(python(forks));
    interpreter::expect_fork();
    EXPECT_TRUE(python(forks)) << "between get_ready and the server's fork";
    server_forks([&] {
      EXPECT_TRUE(python("assert ran == ['before', 'child'], ran"));
      EXPECT_TRUE(python(forks)) << "in the background";
      interpreter::release();
    });
  });
}

TEST(Fork, ForgetsTheParentsChildren) {
  in_child([] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    EXPECT_TRUE(
        python("import multiprocessing, time\n"
               "context = multiprocessing.get_context('fork')\n"
               "process = context.Process(target=time.sleep, args=[1])\n"
               "daemon = context.Process(target=time.sleep, args=[1000], daemon=True)\n"
               "process.start()\n"
               "daemon.start()\n"
               "assert {*multiprocessing.active_children()} == {process, daemon}\n"));
    server_forks([] {
      EXPECT_TRUE(python("assert multiprocessing.active_children() == []"));
      interpreter::release();
      EXPECT_FALSE(Py_IsInitialized());
    });
    int status = 0;
    std::multiset<std::string> ends;
    while (wait(&status) != -1) ends.insert(ending(status));
    const std::multiset<std::string> wanted{"exit status 0", "signal " + std::to_string(SIGTERM)};
    EXPECT_EQ(ends, wanted) << "daemonic processes end with the server, others by themselves";
  });
}

TEST(Fork, ShutdownIsRememberedThroughIt) {
  in_child([] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    EXPECT_TRUE(python("import nbdkit\nnbdkit.shutdown()"));
    server_forks([] {
      EXPECT_EQ(fake().calls, std::vector<std::string>{"shutdown"});
      interpreter::release();
    });
    EXPECT_TRUE(fake().calls.empty()) << "the parent does not serve";
  });
}

TEST(Fork, ServerThreadsThatHaveEnded) {
  in_child([] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    std::thread{[] { EXPECT_TRUE(python("kept = 1")); }}.join();
    server_forks([] {
      EXPECT_TRUE(python("assert kept == 1"));
      interpreter::release();
      EXPECT_FALSE(Py_IsInitialized());
    });
  });
}

}  // namespace
}  // namespace nbdkit_python::test

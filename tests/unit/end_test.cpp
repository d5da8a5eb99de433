// SPDX-License-Identifier: BSD-3-Clause
// The interpreter's end, with and without threads that are still there.
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "child.hpp"
#include "fake_server.hpp"
#include "nbdkit_python/interpreter.hpp"

namespace nbdkit_python::test {
namespace {

// What a script has left to do at the end, and how it is seen to be done.
constexpr const char* last_words =
    "import atexit, nbdkit\n"
    "atexit.register(nbdkit.debug, 'last words')\n";

std::vector<std::string> said() { return std::exchange(fake().debugs, {}); }

// A server's thread, which has been in a callback and then waits to end, in its own good time.
class ServerThread {
 public:
  ServerThread() {
    thread_ = std::thread{[this] {
      EXPECT_TRUE(python("import threading\nkept = threading.local()\nkept.value = []"));
      ready_ = true;
      ready_.notify_all();
      may_end_.wait(false);
    }};
    ready_.wait(false);
  }
  void end() {
    may_end_ = true;
    may_end_.notify_all();
  }
  void join() { thread_.join(); }

 private:
  std::atomic<bool> ready_ = false, may_end_ = false;
  std::thread thread_;
};

TEST(End, FinalizesWithoutThreads) {
  char name[] = "/tmp/nbdkit-python-unit-XXXXXX";
  const int file = mkstemp(name);
  ASSERT_NE(file, -1);
  close(file);
  in_child([&] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    EXPECT_TRUE(python(last_words));
    EXPECT_TRUE(python(std::string{"file = open('"} + name + "', 'w')\nfile.write('written')"));
    interpreter::release();
    EXPECT_FALSE(Py_IsInitialized());
    EXPECT_EQ(said(), std::vector<std::string>{"last words"});
    std::string text;
    std::ifstream{name} >> text;
    EXPECT_EQ(text, "written") << "what the script has open is closed";
  });
  std::filesystem::remove(name);
}

// A callback that the server calls at the end may be an atexit hook as well, for the scripts' other lives.
TEST(End, CallbacksThatRanAreNoHooksAnyMore) {
  in_child([] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    EXPECT_TRUE(
        python("import atexit, nbdkit\n"
               "def cleanup(): nbdkit.debug('cleanup')\n"
               "def other(): nbdkit.debug('other')\n"
               "atexit.register(cleanup)\n"
               "atexit.register(other)\n"
               "cleanup()\n"));
    {
      const Attach attach;
      const Ref main = Ref::take(PyImport_ImportModule("__main__"));
      interpreter::ran(Ref::take(PyObject_GetAttrString(main.get(), "cleanup")).get());
      interpreter::ran(Py_None);
      EXPECT_EQ(PyErr_Occurred(), nullptr);
    }
    interpreter::release();
    EXPECT_EQ(said(), (std::vector<std::string>{"cleanup", "other"}));
  });
}

// In each of these a thread that Python cannot stop is left to the end of the process.
TEST(End, NeverWaitsForAScriptsThreads) {
  for (const char* const thread :
       {"while True: sum(range(1000))", "threading.Event().wait()", "time.sleep(1000)", "nbdkit.nanosleep(1000, 0)"})
    for (const char* const daemon : {"True", "False"})
      in_child([&] {
        ASSERT_TRUE(interpreter::hold(fake_server()));
        EXPECT_TRUE(python(last_words));
        EXPECT_TRUE(python(std::string{"import threading, time\n"
                                       "started = threading.Event()\n"
                                       "def run():\n"
                                       "    started.set()\n"
                                       "    "} +
                           thread +
                           "\n"
                           "threading.Thread(target=run, daemon=" +
                           daemon +
                           ").start()\n"
                           "started.wait()\n"));
        interpreter::release();
        EXPECT_EQ(said(), std::vector<std::string>{"last words"}) << thread;
      });
}

TEST(End, FlushesThoughThreadsAreLeft) {
  char name[] = "/tmp/nbdkit-python-unit-XXXXXX";
  const int file = mkstemp(name);
  ASSERT_NE(file, -1);
  in_child([&] {
    std::fflush(stdout);
    ASSERT_NE(dup2(file, STDOUT_FILENO), -1);
    ASSERT_TRUE(interpreter::hold(fake_server()));
    EXPECT_TRUE(
        python("import threading\n"
               "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
               "print('printed')\n"));
    interpreter::release();
    std::string text;
    std::ifstream{name} >> text;
    EXPECT_EQ(text, "printed");
  });
  close(file);
  std::filesystem::remove(name);
}

// A server's connection threads are detached: the last of them may still be on their way out.
TEST(End, WaitsForThreadsThatAreEnding) {
  for (int i = 0; i < 5; ++i)
    in_child([] {
      ASSERT_TRUE(interpreter::hold(fake_server()));
      ServerThread threads[8];
      std::thread late{[&] {
        for (ServerThread& thread : threads) thread.end();
      }};
      interpreter::release();
      EXPECT_FALSE(Py_IsInitialized());
      late.join();
      for (ServerThread& thread : threads) thread.join();
    });
}

TEST(End, DoesNotWaitForThreadsThatHaveEnded) {
  in_child([] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    for (int i = 0; i < 3; ++i) {
      ServerThread thread;
      thread.end();
      thread.join();
    }
    const auto start = std::chrono::steady_clock::now();
    interpreter::release();
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds{900})
        << "it waits for a second at most";
  });
}

TEST(End, ThreadsMayEndAfterIt) {
  in_child([] {
    ASSERT_TRUE(interpreter::hold(fake_server()));
    EXPECT_TRUE(python(last_words));
    ServerThread thread;
    interpreter::release();
    EXPECT_EQ(said(), std::vector<std::string>{"last words"});
    thread.end();
    thread.join();
  });
}

// A callback may be asleep in the server, and wake up when Python is over.
TEST(End, ThreadsMayWakeAfterIt) {
  static std::atomic<bool> asleep;
  static std::atomic<bool> wake;
  static Server server = fake_server();
  server.nanosleep = [](unsigned, unsigned) {
    asleep = true;
    asleep.notify_all();
    wake.wait(false);
    return -1;
  };
  in_child([] {
    ASSERT_TRUE(interpreter::hold(server));
    interpreter::expect_fork();
    interpreter::forked();
    std::thread{[] { python("import nbdkit\nnbdkit.nanosleep(1, 0)"); }}.detach();
    asleep.wait(false);
    interpreter::release();
    wake = true;
    wake.notify_all();
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
  });
}

}  // namespace
}  // namespace nbdkit_python::test

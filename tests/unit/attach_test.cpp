// SPDX-License-Identifier: BSD-3-Clause
// Attach: a server thread has one Python thread state, from its first attachment to its end.
#include "nbdkit_python/attach.hpp"

#include <atomic>
#include <thread>
#include <vector>

#include "nbdkit_python/buffer.hpp"
#include "python_code.hpp"

namespace nbdkit_python::test {
namespace {

// The test's own thread is detached but where it says otherwise, so that the others can run.
class AttachTest : public testing::Test {
 protected:
  AttachTest() {
    const Attach attach;
    globals_ = Ref::take(PyDict_New());
    PyDict_SetItemString(globals_.get(), "__builtins__", PyEval_GetBuiltins());
    // Up to Python 3.12, the thread that imports threading first is taken for the main thread.
    run("import threading");
    fake().clear();
  }
  ~AttachTest() override {
    const Attach attach;
    EXPECT_EQ(raised(), "");
    globals_ = Ref{};
  }

  // In an attached thread.
  void run(const char* code) {
    if (!Ref::take(PyRun_String(code, Py_file_input, globals_.get(), globals_.get()))) ADD_FAILURE() << raised();
  }
  std::string text_of(const char* expression) {
    const Ref value = Ref::take(PyRun_String(expression, Py_eval_input, globals_.get(), globals_.get()));
    return value ? text(value.get()) : raised();
  }

  static std::size_t states() {
    const Attach attach;
    return thread_states();
  }

  template <typename Body>
  static void in_thread(const Body& body) {
    std::thread{body}.join();
  }

  Ref globals_;
};

// As in a call of the server's that comes back to Python in the same thread.
TEST_F(AttachTest, DetachesForTheBlock) {
  const auto in_and_out = [] {
    PyThreadState* const mine = PyThreadState_Get();
    {
      const Detach others_run;
      EXPECT_EQ(PyGILState_Check(), 0);
      std::thread{[] { const Attach attach; }}.join();
      {
        const Attach attach;
        EXPECT_EQ(PyThreadState_Get(), mine);
        const Detach again;
        EXPECT_EQ(PyGILState_Check(), 0);
      }
      EXPECT_EQ(PyGILState_Check(), 0);
    }
    EXPECT_EQ(PyThreadState_Get(), mine);
  };
  {
    const Attach attach;
    in_and_out();
    const Attach inner;
    in_and_out();
  }
  EXPECT_EQ(PyGILState_Check(), 0);
  // A thread that Python has started has a state that is not ours, before and after.
  static auto body = in_and_out;
  static PyMethodDef method = {"body",
                               [](PyObject*, PyObject*) -> PyObject* {
                                 EXPECT_EQ(Thread::current().state, nullptr);
                                 body();
                                 EXPECT_EQ(Thread::current().state, nullptr);
                                 return Py_NewRef(Py_None);
                               },
                               METH_NOARGS, nullptr};
  const Attach attach;
  const Ref function = Ref::take(PyCFunction_New(&method, nullptr));
  PyDict_SetItemString(globals_.get(), "body", function.get());
  run("thread = threading.Thread(target=body)\nthread.start()\nthread.join()");
}

TEST_F(AttachTest, AttachesForTheBlock) {
  EXPECT_EQ(PyGILState_Check(), 0);
  {
    const Attach attach;
    EXPECT_EQ(PyGILState_Check(), 1);
    EXPECT_EQ(PyThreadState_Get(), Thread::current().state);
  }
  EXPECT_EQ(PyGILState_Check(), 0);
}

TEST_F(AttachTest, Nests) {
  in_thread([this] {
    const Attach outer;
    PyThreadState* const state = PyThreadState_Get();
    {
      const Attach inner;
      const Attach innermost;
      EXPECT_EQ(Thread::current().depth, 3U);
      EXPECT_EQ(PyThreadState_Get(), state);
    }
    EXPECT_EQ(PyGILState_Check(), 1);
    EXPECT_EQ(text_of("1 + 1"), "2");
  });
}

TEST_F(AttachTest, StateLastsFromCallToCall) {
  in_thread([this] {
    EXPECT_EQ(Thread::current().state, nullptr);
    PyThreadState* first = nullptr;
    std::string ident;
    {
      const Attach attach;
      first = PyThreadState_Get();
      ident = text_of("threading.get_ident()");
      run("kept = threading.local()\nkept.count = 1");
    }
    for (int i = 0; i < 3; ++i) {
      const Attach attach;
      run("kept.count += 1");
      EXPECT_EQ(PyThreadState_Get(), first);
      EXPECT_EQ(text_of("threading.get_ident()"), ident);
    }
    const Attach attach;
    EXPECT_EQ(text_of("kept.count"), "4");
  });
}

TEST_F(AttachTest, ThreadsHaveLocalsOfTheirOwn) {
  const auto set_and_see = [this](const char* see) {
    const Attach attach;
    run("kept.mine = True");
    EXPECT_EQ(text_of(see), "[True]");
  };
  {
    const Attach attach;
    run("kept = threading.local()\nkept.main = True");
  }
  in_thread([&] { set_and_see("list(vars(kept).values())"); });
  in_thread([&] { set_and_see("list(vars(kept).values())"); });
}

TEST_F(AttachTest, ThisIsPythonsMainThread) {
  const Attach attach;
  EXPECT_EQ(text_of("threading.current_thread() is threading.main_thread()"), "True");
}

// C libraries that know nothing of us (ctypes' callbacks) use CPython's own functions.
TEST_F(AttachTest, PythonsOwnEnsureUsesTheThreadsState) {
  in_thread([] {
    PyThreadState* state = nullptr;
    {
      const Attach attach;
      state = PyThreadState_Get();
      const PyGILState_STATE nested = PyGILState_Ensure();
      EXPECT_EQ(PyThreadState_Get(), state);
      PyGILState_Release(nested);
      EXPECT_EQ(PyGILState_Check(), 1);
    }
    const PyGILState_STATE alone = PyGILState_Ensure();
    EXPECT_EQ(PyThreadState_Get(), state);
    PyGILState_Release(alone);
    const Attach attach;
    EXPECT_EQ(PyThreadState_Get(), state);
  });
}

TEST_F(AttachTest, EndedThreadsLeaveNoStateBehind) {
  const std::size_t before = states();
  std::atomic<int> runs = 0;
  // Several at a time, as with a server's connections.
  std::vector<std::thread> starters;
  starters.reserve(4);
  for (int i = 0; i < 4; ++i)
    starters.emplace_back([&] {
      for (int j = 0; j < 500; ++j)
        in_thread([&] {
          for (int k = 0; k < 2; ++k) {
            const Attach attach;
            ++runs;
          }
        });
    });
  for (std::thread& starter : starters) starter.join();
  EXPECT_EQ(runs, 4000);
  EXPECT_EQ(states(), before);
}

// With its state go the thread's locals. Their destructors may run Python code, even code that attaches.
TEST_F(AttachTest, EndedThreadsDestroyTheirLocals) {
  {
    const Attach attach;
    run("kept = threading.local()\n"
        "gone = []\n"
        "class Local:\n"
        "    def __del__(self):\n"
        "        import nbdkit\n"
        "        nbdkit.debug('local')\n"
        "        gone.append(threading.get_ident())\n");
  }
  for (int i = 0; i < 50; ++i)
    in_thread([this] {
      const Attach attach;
      run("kept.value = Local()");
    });
  const Attach attach;
  EXPECT_EQ(text_of("len(gone)"), "50");
  EXPECT_EQ(fake().debugs.size(), 50U);
}

TEST_F(AttachTest, EndedThreadsFreeTheirLenders) {
  Py_ssize_t before = 0;
  PyObject* type = nullptr;
  {
    const Attach attach;
    char byte = 0;
    const View view{&byte, 1, true};
    // The type, which every exporter refers to, outlives them.
    type = reinterpret_cast<PyObject*>(Py_TYPE(PyMemoryView_GET_BUFFER(view.get())->obj));
    before = Py_REFCNT(type);
  }
  for (int i = 0; i < 20; ++i)
    in_thread([] {
      const Attach attach;
      char byte = 0;
      const View view{&byte, 1, true};
      EXPECT_NE(view.get(), nullptr);
    });
  const Attach attach;
  EXPECT_EQ(Py_REFCNT(type), before);
}

TEST_F(AttachTest, ThreadsThatNeverAttachHaveNoState) {
  const std::size_t before = states();
  in_thread([&] {
    EXPECT_EQ(Thread::current().state, nullptr);
    EXPECT_EQ(Thread::current().depth, 0U);
  });
  EXPECT_EQ(states(), before);
}

TEST_F(AttachTest, OneThreadAtATime) {
  int guarded = 0;  // by the attachment alone
  {
    const Attach attach;
    run("import time\nkept = threading.local()\ntotal = 0");
  }
  std::vector<std::thread> threads;
  threads.reserve(8);
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&, i] {
      for (int j = 0; j < 200; ++j) {
        const Attach attach;
        ++guarded;
        run("kept.count = getattr(kept, 'count', 0) + 1\n"
            "total += 1\n");
        // Others run meanwhile.
        if (j % 50 == i) run("time.sleep(0.0005)");
      }
      const Attach attach;
      EXPECT_EQ(text_of("kept.count"), "200");
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(guarded, 1600);
}

TEST_F(AttachTest, KnowsWhetherThereAreOthers) {
  const Attach attach;
  EXPECT_FALSE(threads::others());
  run("stop, started = threading.Event(), threading.Event()\n"
      "def wait():\n"
      "    started.set()\n"
      "    stop.wait()\n"
      "thread = threading.Thread(target=wait)\n"
      "thread.start()\n"
      "started.wait()\n");
  EXPECT_TRUE(threads::others());
  run("stop.set()\nthread.join()");
  // join() returns a moment before the thread's state is gone.
  for (int i = 0; i < 1000 && threads::others(); ++i) run("__import__('time').sleep(0.001)");
  EXPECT_FALSE(threads::others());
}

}  // namespace
}  // namespace nbdkit_python::test

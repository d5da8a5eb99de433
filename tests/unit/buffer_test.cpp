// SPDX-License-Identifier: BSD-3-Clause
// View: a request's buffer as a script sees it, and what becomes of a view that the script keeps.
#include "nbdkit_python/buffer.hpp"

#include <cstring>
#include <string>

#include "python_code.hpp"

namespace nbdkit_python::test {
namespace {

class BufferTest : public PythonTest {
 protected:
  BufferTest() { run("kept = []"); }

  // Runs a callback's statements, in which the view is called buf; then ends the view. Empty, or what that raised.
  std::string after(const std::string& statements, bool writable = true) {
    View view{data_, sizeof data_, writable};
    run_with(view, statements);
    const bool good = view.close();
    std::string error = raised();
    EXPECT_EQ(good, error.empty());
    return error;
  }
  void run_with(const View& view, const std::string& statements) {
    ASSERT_NE(view.get(), nullptr);
    PyDict_SetItemString(globals(), "buf", view.get());
    run(statements);
    run("del buf");
  }

  // How many small blocks of memory CPython has in use.
  Py_ssize_t allocated() { return PyLong_AsSsize_t(value("__import__('sys').getallocatedblocks()").get()); }

  static constexpr const char* still_used =
      "ScriptError: the request's buffer is still in use after the callback: what lasts longer must be a copy, "
      "bytes(buf), or an object made from a copy";

  char data_[16] = "0123456789abcde";
};

TEST_F(BufferTest, IsTheServersMemory) {
  EXPECT_EQ(after("assert type(buf) is memoryview\n"
                  "assert buf.nbytes == len(buf) == 16 and buf.format == 'B' and buf.contiguous\n"
                  "assert not buf.readonly\n"
                  "assert bytes(buf[:4]) == b'0123'\n"
                  "buf[1:3] = b'XY'\n"),
            "");
  EXPECT_STREQ(data_, "0XY3456789abcde");
}

TEST_F(BufferTest, ReadOnly) {
  EXPECT_EQ(after("assert buf.readonly\n"
                  "try: buf[0] = 1\n"
                  "except TypeError: pass\n"
                  "else: raise AssertionError\n"
                  "import ctypes\n"
                  "try: (ctypes.c_char * 16).from_buffer(buf)\n"
                  "except TypeError: pass\n"
                  "else: raise AssertionError\n"
                  "try: open('/dev/null', 'rb').readinto(buf)\n"
                  "except TypeError: pass\n"
                  "else: raise AssertionError\n",
                  false),
            "");
  EXPECT_STREQ(data_, "0123456789abcde");
}

TEST_F(BufferTest, Empty) {
  View view{data_, 0, true};
  run_with(view, "assert buf.nbytes == 0 and bytes(buf) == b''");
  EXPECT_TRUE(view.close());
}

TEST_F(BufferTest, WhatIsDroppedIsNoError) {
  EXPECT_EQ(after("one = buf[2:]\ntwo = one.cast('H')\nthree = memoryview(two)\ndel one, two, three"), "");
  EXPECT_EQ(after("kept.append(bytes(buf))"), "");
  EXPECT_EQ(after("buf.release()"), "");
  EXPECT_EQ(after("with buf[1:] as part: part[0] = 1"), "");
}

TEST_F(BufferTest, AnyKeptViewIsAnErrorAndReleased) {
  for (const char* const keep : {"buf", "buf[4:8]", "buf[::-2]", "buf.cast('I')", "buf.cast('H').cast('B')",
                                 "memoryview(buf)", "buf.toreadonly()", "memoryview(buf.obj)"}) {
    EXPECT_EQ(after(std::string{"kept.append("} + keep + ")"), still_used) << keep;
    EXPECT_EQ(raised_by("bytes(kept.pop())"), "ValueError: operation forbidden on released memoryview object") << keep;
  }
  // However they are kept.
  EXPECT_EQ(after("kept.append(lambda part=buf[1:]: part[0])"), still_used);
  EXPECT_EQ(raised_by("kept.pop()()"), "ValueError: operation forbidden on released memoryview object");
  EXPECT_EQ(after("iterator = iter(buf)"), still_used);
  EXPECT_EQ(raised_by("next(iterator)"), "ValueError: operation forbidden on released memoryview object");
  EXPECT_EQ(after("kept.extend([buf, buf[1:], buf[2:], buf[3:].cast('B')])"), still_used);
  run("for view in kept:\n"
      "    try: view[0]\n"
      "    except ValueError: continue\n"
      "    raise AssertionError\n");
}

// Where the interpreter's collector is all that stands between the view and its end, the script has done no wrong.
TEST_F(BufferTest, GarbageIsCollected) {
  const char* const cycle =
      "def cycle(part):\n"
      "    def inner(): return inner, part\n"
      "    return inner\n"
      "cycle(buf[1:])\n"
      "del cycle\n";
  EXPECT_EQ(after(cycle), "");
  run("import gc\ngc.disable()");
  EXPECT_EQ(after(cycle), "") << "with the script's collector off";
  EXPECT_EQ(
      after(
          "class Node: pass\nnode = Node()\nnode.self, node.view = node, buf\ngc.collect(0)\ngc.collect(1)\ndel node"),
      "")
      << "an older generation";
  run("gc.enable()");
}

// A frame that an exception holds belongs to what the callback raised: it is reported first, and then it is gone.
TEST_F(BufferTest, GoneWithTheException) {
  View view{data_, sizeof data_, true};
  run("def callback(buf):\n    part = buf[1:]\n    raise KeyError(part)");
  const Ref callback = value("callback");
  EXPECT_FALSE(Ref::take(PyObject_CallOneArg(callback.get(), view.get())));
  raised();
  EXPECT_TRUE(view.close());
}

// These have the memory's address: that cannot be taken from them, only told, and waited for.
TEST_F(BufferTest, ObjectsMadeFromTheBuffer) {
  run("import pickle");
  EXPECT_EQ(after("kept.append(pickle.PickleBuffer(buf))"), still_used);
  run("kept.clear()");
  // The views beside it are gone all the same.
  EXPECT_EQ(after("part = buf[1:]\nkept.append(pickle.PickleBuffer(buf))"), still_used);
  EXPECT_EQ(raised_by("part[0]"), "ValueError: operation forbidden on released memoryview object");
  // They are let go of after all; nothing of ours minds.
  run("kept.clear()");
  EXPECT_EQ(after("pass"), "");
  // One that has let go in time.
  EXPECT_EQ(after("pickle.PickleBuffer(buf).release()"), "");
}

// Like numpy's, ctypes' arrays keep a memoryview and an address of their own.
TEST_F(BufferTest, Arrays) {
  run("import ctypes");
  EXPECT_EQ(after("array = (ctypes.c_char * 16).from_buffer(buf)\narray[0] = b'!'\ndel array"), "");
  EXPECT_EQ(data_[0], '!');
  EXPECT_EQ(after("kept.append((ctypes.c_char * 16).from_buffer(buf))"), still_used);
  run("kept.clear()");
  EXPECT_EQ(after("kept.append((ctypes.c_char * 8).from_buffer(buf, 8))"), still_used);
}

TEST_F(BufferTest, LostMemoryServesNoRequestUntilItIsFree) {
  constexpr const char* refused =
      "ScriptError: this request's memory is still in use: a thread, or an array of ctypes or numpy, has it from an "
      "earlier request's buffer; none is served in it until that is gone";
  char other[16] = "elsewhere";
  run("import ctypes");
  EXPECT_EQ(after("kept.append((ctypes.c_char * 16).from_buffer(buf))"), still_used);
  for (int i = 0; i < 2; ++i) {
    const View view{data_ + 15, 1, false};
    EXPECT_EQ(view.get(), nullptr);
    EXPECT_EQ(raised(), refused);
    EXPECT_FALSE(is_free(data_, 1));
    EXPECT_EQ(raised(), refused);
  }
  EXPECT_TRUE(is_free(data_ - 1, 1)) << "the byte before";
  EXPECT_TRUE(is_free(data_ + 16, 1)) << "the byte after";
  EXPECT_TRUE(is_free(other, sizeof other));
  EXPECT_NE((View{other, sizeof other, true}.get()), nullptr);
  run("kept.clear()");
  EXPECT_TRUE(is_free(data_, 1));
  EXPECT_EQ(after("pass"), "");
}

// The view that an array was made from comes to life again when the array is gone: it must not see a later request.
TEST_F(BufferTest, TheViewBehindAnArrayIsReleasedToo) {
  run("import ctypes");
  EXPECT_EQ(after("view = buf[4:]\nkept.append((ctypes.c_char * 4).from_buffer(view))"), still_used);
  run("kept.clear()");
  EXPECT_EQ(after("pass"), "");
  EXPECT_EQ(raised_by("view[0]"), "ValueError: operation forbidden on released memoryview object");
}

TEST_F(BufferTest, FrozenViews) {
  run("import gc");
  EXPECT_EQ(after("frozen = buf[:]\ngc.freeze()"), still_used);
  EXPECT_EQ(raised_by("frozen[0]"), "ValueError: operation forbidden on released memoryview object");
}

// A thread that has the address with the GIL released, when the callback returns, is given a moment to finish. On a
// busy machine it may not come to run within that moment, or not have begun to send: then it has another try.
TEST_F(BufferTest, AThreadThatIsStillSendingIt) {
  std::string taken;
  for (int i = 0; i < 100 && taken.empty(); ++i) {
    run("import fcntl, os, threading, time\n"
        "out, into = os.pipe()\n"
        "size = fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, 4096)\n"
        "os.write(into, bytes(size))\n"
        "sending = threading.Event()\n"
        "sent = False\n"
        "def send():\n"
        "  global sent\n"
        "  sending.set()\n"
        "  try: sent = os.write(into, shared) == 16\n"
        "  except ValueError: pass\n"
        "threads = [threading.Thread(target=send), threading.Timer(0.005, lambda: os.read(out, size))]");
    EXPECT_EQ(after("shared = buf[:]\nthreads[0].start()\nsending.wait()\ntime.sleep(0.02)\nthreads[1].start()"),
              still_used);
    const std::string error = raised_by("shared[0]");
    run("for thread in threads: thread.join()\n"
        "assert not sent or os.read(out, 16) == b'0123456789abcde\\0'\n"
        "os.close(out)\n"
        "os.close(into)");
    if (text_of("sent") == "True") taken = error;
  }
  EXPECT_EQ(taken, "ValueError: operation forbidden on released memoryview object");
}

// The object behind the memoryview is in the script's reach; its memory is not, once the callback is over.
TEST_F(BufferTest, KeptExporter) {
  EXPECT_EQ(after("obj = buf.obj\nassert bytes(obj) == bytes(buf)"), "");
  EXPECT_EQ(raised_by("memoryview(obj)"), "BufferError: this request is over: its buffer is gone");
  EXPECT_EQ(raised_by("bytes(obj)"), "BufferError: this request is over: its buffer is gone");
  EXPECT_CONTAINS(raised_by("type(obj)()"), "TypeError: cannot create 'nbdkit.Buffer' instances");
  // It is not used for the next request.
  EXPECT_EQ(after("assert buf.obj is not obj"), "");
  EXPECT_EQ(raised_by("memoryview(obj)"), "BufferError: this request is over: its buffer is gone");
}

TEST_F(BufferTest, ExporterIsUsedAgain) {
  after("first = id(buf.obj)");
  for (int i = 0; i < 3; ++i) EXPECT_EQ(after("assert id(buf.obj) == first"), "");
  EXPECT_EQ(after("assert id(buf.obj) == first and buf.readonly", false), "") << "for another kind of request too";
}

TEST_F(BufferTest, NoGrowth) {
  const auto use = [&] {
    View view{data_, sizeof data_, true};
    EXPECT_TRUE(view.close());
  };
  for (int i = 0; i < 10; ++i) use();
  const Py_ssize_t before = allocated();
  for (int i = 0; i < 1000; ++i) use();
  EXPECT_LE(allocated(), before + 5);
}

TEST_F(BufferTest, NoGrowthWhereEachRequestIsWrong) {
  after("exporter_type = type(buf.obj)");
  // Every exporter refers to its type, and every memoryview to its exporter.
  const Ref type = value("exporter_type");
  const Py_ssize_t before = Py_REFCNT(type.get());
  for (int i = 0; i < 20; ++i) EXPECT_EQ(after("kept.append(buf)"), still_used);
  run("kept.clear()");
  after("pass");  // which makes what the thread keeps
  EXPECT_EQ(Py_REFCNT(type.get()), before);
}

// As when a callback of the plugin asks for a callback of the filter's.
TEST_F(BufferTest, OneInsideTheOther) {
  char inner_data[4] = "in!";
  View outer{data_, sizeof data_, true};
  {
    View inner{inner_data, sizeof inner_data, true};
    PyDict_SetItemString(globals(), "outer", outer.get());
    PyDict_SetItemString(globals(), "inner", inner.get());
    run("assert outer.obj is not inner.obj\nouter[:3] = inner[:3]\nkept.append(inner)\ndel inner");
    EXPECT_FALSE(inner.close());
    EXPECT_EQ(raised(), still_used);
  }
  run("assert bytes(outer[:3]) == b'in!'\ndel outer");
  EXPECT_TRUE(outer.close());
}

TEST_F(BufferTest, ClosingTwiceIsFine) {
  View view{data_, sizeof data_, true};
  run_with(view, "kept.append(buf)");
  EXPECT_FALSE(view.close());
  EXPECT_EQ(raised(), still_used);
  EXPECT_TRUE(view.close());
}

TEST_F(BufferTest, EndOfTheBlockReleases) {
  {
    View view{data_, sizeof data_, true};
    run_with(view, "kept.append(buf)");
  }
  EXPECT_EQ(raised(), "");
  EXPECT_EQ(raised_by("kept[0][0]"), "ValueError: operation forbidden on released memoryview object");
}

}  // namespace
}  // namespace nbdkit_python::test

// SPDX-License-Identifier: BSD-3-Clause
// Call: arguments on their way in, answers and failures on their way out, and one callback inside another.
#include "nbdkit_python/call.hpp"

#include <cerrno>
#include <thread>

#include "script_fixture.hpp"

namespace nbdkit_python::test {
namespace {

class CallTest : public ScriptTest {
 protected:
  // A script whose close(h) is made of these lines; they are indented here.
  std::unique_ptr<Script> closing(const std::string& lines) {
    std::string body = "    ";
    for (const char c : lines) body += c == '\n' ? "\n    " : std::string{c};
    return resolved(required + "import errno, nbdkit\ndef close(h):\n" + body + "\n");
  }
  // Runs it, and has it fail.
  void fail(const std::string& lines) {
    const auto script = closing(lines);
    Call call{*script, id::close};
    EXPECT_FALSE(call.invoke(Py_None)) << lines;
    call.fail();
    EXPECT_EQ(raised(), "") << "left pending";
  }
  // Runs it, which may succeed: whether it declines, or else fails.
  bool declines(const std::string& lines) {
    const auto script = closing(lines);
    Call call{*script, id::close};
    const Ref answer = call.invoke(Py_None);
    const bool result = call.fail_or_decline() == EOPNOTSUPP;
    EXPECT_EQ(raised(), "") << "left pending";
    return result;
  }
  // What the server's set_error has been given, once.
  static int sent() {
    const auto errnos = std::exchange(fake().errnos, {});
    EXPECT_EQ(errnos.size(), 1U);
    return errnos.empty() ? 0 : errnos.front();
  }
};

TEST_F(CallTest, PassesArguments) {
  const auto script = resolved(required + "def items(*arguments): return arguments\n");
  Call call{*script, id::items};
  EXPECT_EQ(text(call.invoke().get()), "()");
  EXPECT_EQ(text(call.invoke(true, false).get()), "(True, False)");
  EXPECT_EQ(text(call.invoke(std::uint32_t{4294967295}, std::uint64_t{18446744073709551615U}).get()),
            "(4294967295, 18446744073709551615)");
  EXPECT_EQ(text(call.invoke("key", "caf\xC3\xA9").get()), "('key', 'café')");
  EXPECT_EQ(text(call.invoke("\xFF").get()), "('\\udcff',)");
  EXPECT_EQ(text(call.invoke(Py_None, std::uint32_t{1}, std::uint64_t{2}, true, "x").get()), "(None, 1, 2, True, 'x')");
  const Ref list = value("[]");
  EXPECT_EQ(PyTuple_GET_ITEM(call.invoke(list.get()).get(), 0), list.get());
}

TEST_F(CallTest, CallsWhateverIsCallable) {
  for (const char* const close : {"class C:\n    def m(self, h): return h\nclose = C().m", "close = lambda h: h",
                                  "class C:\n    def __call__(self, h): return h\nclose = C()",
                                  "import functools\nclose = functools.partial(lambda a, h: h, 0)", "close = int"}) {
    const auto script = resolved(required + close);
    Call call{*script, id::close};
    EXPECT_EQ(text(call.invoke(std::uint32_t{7}).get()), "7") << close;
  }
}

TEST_F(CallTest, IsThisThreadsCurrentOne) {
  const auto script = closing("pass");
  EXPECT_EQ(Call::current(), nullptr);
  {
    Call outer{*script, id::close};
    EXPECT_EQ(Call::current(), &outer);
    EXPECT_STREQ(outer.name(), "close");
    EXPECT_EQ(&outer.script(), script.get());
    {
      Call inner{*script, id::open};
      EXPECT_EQ(Call::current(), &inner);
      EXPECT_STREQ(inner.name(), "open");
    }
    EXPECT_EQ(Call::current(), &outer);
    Call* other = &outer;
    Py_BEGIN_ALLOW_THREADS;
    std::thread{[&] { other = Call::current(); }}.join();
    Py_END_ALLOW_THREADS;
    EXPECT_EQ(other, nullptr);
  }
  EXPECT_EQ(Call::current(), nullptr);
}

TEST_F(CallTest, AttachesItsThread) {
  const auto script = closing("return h + 1");
  Py_BEGIN_ALLOW_THREADS;
  std::thread{[&] {
    Call call{*script, id::close};
    EXPECT_EQ(PyGILState_Check(), 1);
    EXPECT_EQ(text(call.invoke(std::uint32_t{1}).get()), "2");
  }}.join();
  Py_END_ALLOW_THREADS;
}

TEST_F(CallTest, FailureIsLoggedAndSent) {
  fail("raise nbdkit.Error(errno.ENOSPC, 'full')");
  EXPECT_EQ(sent(), ENOSPC);
  EXPECT_EQ(error(), "close: full [ENOSPC]");
  fail("raise KeyError('text')");
  EXPECT_EQ(sent(), EIO);
  const std::string message = error();
  EXPECT_TRUE(message.starts_with("close: Traceback (most recent call last):\n")) << message;
  EXPECT_TRUE(message.ends_with("KeyError: 'text'")) << message;
}

TEST_F(CallTest, SetErrorCountsWhereThisCallFails) {
  fail("nbdkit.set_error(errno.EPERM)\nraise KeyError");
  EXPECT_EQ(sent(), EPERM);
  fail("nbdkit.set_error(errno.EPERM)\nnbdkit.set_error(errno.ENOSPC)\nraise KeyError");
  EXPECT_EQ(sent(), ENOSPC);
  fail("nbdkit.set_error(errno.EPERM)\nnbdkit.set_error(0)\nraise KeyError");
  EXPECT_EQ(sent(), EIO);
  fail("nbdkit.set_error(errno.EPERM)\nraise nbdkit.Error(errno.ENOSPC)");
  EXPECT_EQ(sent(), ENOSPC);
  fail("nbdkit.set_error(errno.ENOENT)\nraise KeyError");
  EXPECT_EQ(sent(), EIO);
}

TEST_F(CallTest, SetErrorIsForOneCallAlone) {
  const auto script = closing("if h: nbdkit.set_error(errno.EPERM)\nelse: raise KeyError");
  {
    Call call{*script, id::close};
    EXPECT_TRUE(call.invoke(true));
  }
  Call call{*script, id::close};
  EXPECT_FALSE(call.invoke(false));
  call.fail();
  EXPECT_EQ(sent(), EIO);
}

TEST_F(CallTest, SetErrorOfAnInnerCallStaysThere) {
  const auto script = closing("nbdkit.set_error(errno.EPERM)\nraise KeyError");
  Call outer{*script, id::open};
  outer.set_error(ENOSPC);
  {
    Call inner{*script, id::close};
    EXPECT_FALSE(inner.invoke(Py_None));
    inner.fail();
    EXPECT_EQ(sent(), EPERM);
  }
  PyErr_SetString(PyExc_KeyError, "outer");
  outer.fail();
  EXPECT_EQ(sent(), ENOSPC);
}

// A callback of one script that, by way of the server, runs one of another: each speaks to its own server.
TEST_F(CallTest, ScriptsSpeakToTheirOwnServers) {
  static std::vector<std::string> other_debugs;
  static Server other_server = fake_server();
  other_server.debug = [](const char* message) { other_debugs.emplace_back(message); };
  const auto script = closing("nbdkit.debug(h)");
  const auto other = Script::load(other_server, path().c_str(), table);
  ASSERT_TRUE(other && other->resolve());
  fake().debugs.clear();
  {
    Call outer{*script, id::close};
    EXPECT_TRUE(outer.invoke("one"));
    {
      Call inner{*other, id::close};
      EXPECT_TRUE(inner.invoke("two"));
    }
    EXPECT_TRUE(outer.invoke("three"));
  }
  run("import nbdkit\nnbdkit.debug('none running')");
  EXPECT_EQ(fake().debugs, (std::vector<std::string>{"one", "three", "none running"}));
  EXPECT_EQ(other_debugs, std::vector<std::string>{"two"});
}

TEST_F(CallTest, Declines) {
  for (const char* const quiet :
       {"nbdkit.set_error(errno.EOPNOTSUPP)", "nbdkit.set_error(errno.ENOTSUP)", "raise NotImplementedError",
        "raise nbdkit.Error(errno.EOPNOTSUPP)", "raise OSError(errno.EOPNOTSUPP, 'x')",
        "nbdkit.set_error(errno.EOPNOTSUPP)\nraise KeyError"}) {
    EXPECT_TRUE(declines(quiet)) << quiet;
    EXPECT_TRUE(fake().errnos.empty()) << quiet;
    EXPECT_TRUE(fake().errors.empty()) << quiet << ": " << fake().errors.front();
  }
}

TEST_F(CallTest, DoesNotDecline) {
  EXPECT_FALSE(declines("nbdkit.set_error(errno.EOPNOTSUPP)\nraise nbdkit.Error(errno.ENOSPC, 'full')"));
  EXPECT_EQ(sent(), ENOSPC);
  EXPECT_EQ(error(), "close: full [ENOSPC]");
  EXPECT_FALSE(declines("raise KeyError('text')"));
  EXPECT_EQ(sent(), EIO);
  EXPECT_TRUE(error().ends_with("KeyError: 'text'"));
}

TEST_F(CallTest, KnowsWhetherItHasDeclined) {
  const auto script = closing("nbdkit.set_error(h)");
  const auto declined = [&](std::uint32_t err) {
    Call call{*script, id::close};
    EXPECT_FALSE(call.declined());
    EXPECT_TRUE(call.invoke(err));
    return call.declined();
  };
  EXPECT_TRUE(declined(EOPNOTSUPP));
  EXPECT_FALSE(declined(EIO));
  EXPECT_FALSE(declined(0));
}

TEST_F(CallTest, KeepsNoReferences) {
  const auto script = closing("if h[0] is None: raise KeyError(h)\nreturn h");
  const Ref good = value("[1]");
  const Ref bad = value("[None]");
  Call call{*script, id::close};
  for (const Ref* const handle : {&good, &bad})
    keeps_references(handle->get(), [&] {
      if (!call.invoke(handle->get())) call.fail();
    });
  const Ref callback = value("__main__.close");
  keeps_references(callback.get(), [&] { static_cast<void>(call.invoke(good.get())); });
}

TEST_F(CallTest, NoGrowth) {
  const auto script = resolved(required_v2);
  const Ref blocks = value("sys.getallocatedblocks");
  const auto allocated = [&] { return PyLong_AsSsize_t(Ref::take(PyObject_CallNoArgs(blocks.get())).get()); };
  const auto once = [&] {
    Call call{*script, id::pread};
    EXPECT_TRUE(call.invoke(Py_None, Py_None, std::uint64_t{1} << 40, std::uint32_t{70000}));
  };
  for (int i = 0; i < 10; ++i) once();
  const Py_ssize_t before = allocated();
  for (int i = 0; i < 1000; ++i) once();
  EXPECT_LE(allocated(), before + 5);
}

}  // namespace
}  // namespace nbdkit_python::test

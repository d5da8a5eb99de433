// SPDX-License-Identifier: BSD-3-Clause
// The reporter: which errno an exception becomes, and what the log says of it.
#include "nbdkit_python/error.hpp"

#include <cerrno>

#include "nbdkit_python/interpreter.hpp"
#include "python_code.hpp"

namespace nbdkit_python::test {
namespace {

class ErrorTest : public PythonTest {
 protected:
  ErrorTest() { run("import errno, nbdkit"); }

  // What statements that raise are reported as.
  Failure failure(const std::string& code, int set_error = 0) {
    raise(code);
    Failure result = take_failure(set_error);
    EXPECT_EQ(raised(), "") << "left pending by take_failure, after " << code;
    return result;
  }
  int errno_of(const std::string& code, int set_error = 0) { return failure(code, set_error).err; }
  std::string message_of(const std::string& code, int set_error = 0) { return failure(code, set_error).message; }
};

TEST_F(ErrorTest, ErrnoOrder) {
  // nbdkit.Error's own comes before everything.
  EXPECT_EQ(errno_of("raise nbdkit.Error(errno.ENOSPC)"), ENOSPC);
  EXPECT_EQ(errno_of("raise nbdkit.Error(errno.ENOSPC)", EPERM), ENOSPC);
  EXPECT_EQ(errno_of("class Mine(nbdkit.Error): pass\nraise Mine(errno.ENOSPC)", EPERM), ENOSPC);
  // set_error's before those of other exceptions and their classes.
  EXPECT_EQ(errno_of("raise OSError(errno.ENOSPC, 'full')", EPERM), EPERM);
  EXPECT_EQ(errno_of("raise MemoryError", EPERM), EPERM);
  EXPECT_EQ(errno_of("raise NotImplementedError", EPERM), EPERM);
  EXPECT_EQ(errno_of("raise ValueError", EPERM), EPERM);
  // OSError's before its class.
  EXPECT_EQ(errno_of("raise OSError(errno.ENOSPC, 'full')"), ENOSPC);
  EXPECT_EQ(errno_of("raise PermissionError(errno.ENOSPC, 'full')"), ENOSPC);
  EXPECT_EQ(errno_of("open('/', 'w')"), EIO) << "EISDIR, which NBD does not have";
  // The class.
  EXPECT_EQ(errno_of("raise MemoryError"), ENOMEM);
  EXPECT_EQ(errno_of("raise NotImplementedError"), EOPNOTSUPP);
  EXPECT_EQ(errno_of("raise PermissionError"), EPERM);
  EXPECT_EQ(errno_of("class Mine(NotImplementedError): pass\nraise Mine"), EOPNOTSUPP);
  // EIO.
  EXPECT_EQ(errno_of("raise OSError"), EIO);
  EXPECT_EQ(errno_of("raise OSError('no errno')"), EIO);
  EXPECT_EQ(errno_of("raise TimeoutError"), EIO);
  EXPECT_EQ(errno_of("raise ValueError"), EIO);
}

TEST_F(ErrorTest, ErrnoOfOtherExceptionsIsNotTheirs) {
  EXPECT_EQ(errno_of("class Mine(Exception): errno = 28\nraise Mine"), EIO);
}

TEST_F(ErrorTest, ErrnosThatAreNone) {
  for (const char* const err : {"0", "-28", "4096", "10 ** 30", "'28'", "None", "28.0"}) {
    EXPECT_EQ(errno_of(std::string{"error = OSError('x')\nerror.errno = "} + err + "\nraise error"), EIO) << err;
    EXPECT_EQ(errno_of(std::string{"error = nbdkit.Error(5)\nerror.errno = "} + err + "\nraise error", EPERM), EPERM);
  }
  EXPECT_EQ(errno_of("class Mine(OSError):\n"
                     "    @property\n"
                     "    def errno(self): raise KeyError('errno')\n"
                     "raise Mine"),
            EIO);
}

TEST_F(ErrorTest, ErrnosThatNbdExpresses) {
  for (const int err :
       {EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, EOPNOTSUPP, ESHUTDOWN, EROFS, EDQUOT, EFBIG}) {
    EXPECT_EQ(errno_of("raise nbdkit.Error(" + std::to_string(err) + ")"), err);
    EXPECT_EQ(errno_of("raise ValueError", err), err);
    EXPECT_LACKS(message_of("raise nbdkit.Error(" + std::to_string(err) + ")"), "NBD has no");
  }
}

TEST_F(ErrorTest, ErrnosThatNbdHasNot) {
  EXPECT_EQ(errno_of("raise nbdkit.Error(errno.EACCES)"), EPERM);
  EXPECT_LACKS(message_of("raise nbdkit.Error(errno.EACCES)"), "NBD has no");
  const char* const names[] = {"ENOENT", "ETIMEDOUT", "ECONNRESET", "EBUSY", "EAGAIN", "ENODEV"};
  for (const std::string name : names) {
    const Failure own = failure("raise nbdkit.Error(errno." + name + ", 'text')");
    EXPECT_EQ(own.err, EIO) << name;
    EXPECT_EQ(own.message, "text [" + name + "] (NBD has no " + name + ": the client gets EIO)");
    const Failure other = failure("raise OSError(errno." + name + ", 'text')");
    EXPECT_EQ(other.err, EIO) << name;
    EXPECT_CONTAINS(other.message, "(NBD has no " + name + ": the client gets EIO)");
  }
  EXPECT_EQ(errno_of("raise ValueError", ENOENT), EIO);
  EXPECT_CONTAINS(message_of("raise ValueError", ENOENT), "NBD has no ENOENT");
  EXPECT_CONTAINS(message_of("raise nbdkit.Error(4000, 'text')"), "[errno 4000]");
}

TEST_F(ErrorTest, RawErrnosAreThoseOfTheException) {
  raise("raise OSError(errno.ENOENT, 'gone')");
  const Failure failure = take_raw_failure();
  EXPECT_EQ(failure.err, ENOENT);
  EXPECT_EQ(failure.message.find("NBD"), std::string::npos) << failure.message;
  EXPECT_EQ(raised(), "");
}

TEST_F(ErrorTest, DeliberateErrorIsOneLine) {
  EXPECT_EQ(message_of("raise nbdkit.Error(errno.ENOSPC, 'the pool is full')"), "the pool is full [ENOSPC]");
  EXPECT_EQ(message_of("raise nbdkit.Error(errno.ENOSPC)"), "No space left on device [ENOSPC]");
  EXPECT_EQ(message_of("raise nbdkit.Error(errno.EIO, '')"), " [EIO]");
  EXPECT_EQ(message_of("raise nbdkit.Error(errno.EIO, b'caf\\xc3\\xa9 \\xff')"), "café \\xff [EIO]");
  EXPECT_EQ(message_of("try: 1 / 0\nexcept ZeroDivisionError as e: raise nbdkit.Error(5, 'text') from e"),
            "text [EIO]");
}

TEST_F(ErrorTest, OtherExceptionsHaveTheirTraceback) {
  const std::string message = message_of("def fail():\n    raise ValueError('text')\nfail()");
  EXPECT_TRUE(message.starts_with("Traceback (most recent call last):\n")) << message;
  EXPECT_CONTAINS(message, "line 3, in <module>\n");
  EXPECT_CONTAINS(message, "line 2, in fail\n");
  EXPECT_TRUE(message.ends_with("ValueError: text")) << message;
}

TEST_F(ErrorTest, TracebackHasTheCause) {
  const std::string message = message_of("try: 1 / 0\nexcept ZeroDivisionError as e: raise OSError(5, 'text') from e");
  EXPECT_CONTAINS(message, "ZeroDivisionError: division by zero");
  EXPECT_CONTAINS(message, "direct cause");
  EXPECT_CONTAINS(message, "OSError: [Errno 5] text");
}

// As when there is no memory for one.
TEST_F(ErrorTest, WithoutATraceback) {
  run("import traceback\nwas = traceback.format_exception\ntraceback.format_exception = lambda error: 1 / 0");
  EXPECT_EQ(message_of("raise ValueError('text')"), "ValueError: text");
  run("traceback.format_exception = was");
}

TEST_F(ErrorTest, ScriptErrorSaysItAll) {
  EXPECT_EQ(message_of("import nbdkit._errors\nraise nbdkit._errors.ScriptError('expected this, got that')"),
            "expected this, got that");
}

TEST_F(ErrorTest, TextsThatAreNoUtf8) {
  EXPECT_EQ(message_of("raise nbdkit.Error(5, 'a\\udc80b\\0c\\u00e9')"), "a\\udc80b\\x00cé [EIO]");
  const std::string message = message_of("raise ValueError('a\\ud800b\\0c')");
  EXPECT_TRUE(message.ends_with("ValueError: a\\ud800b\\x00c")) << message;
}

TEST_F(ErrorTest, ExceptionsThatCannotBeShown) {
  EXPECT_CONTAINS(message_of("class Mine(Exception):\n    def __str__(self): raise KeyError('inner')\nraise Mine"),
                  "Mine");
  EXPECT_CONTAINS(message_of("class Mine(Exception):\n    def __str__(self): return 3\nraise Mine"), "Mine");
  // traceback itself fails on this one.
  const std::string worst = message_of(
      "class Mine(Exception):\n"
      "    def __str__(self): raise SystemExit(3)\n"
      "    __repr__ = __str__\n"
      "raise Mine");
  EXPECT_CONTAINS(worst, "Mine");
  EXPECT_EQ(message_of("class Mine(nbdkit.Error):\n"
                       "    @property\n"
                       "    def strerror(self): raise KeyError\n"
                       "raise Mine(5)"),
            " [EIO]");
}

TEST_F(ErrorTest, ExceptionsThatAreNoErrors) {
  EXPECT_EQ(errno_of("raise SystemExit(0)"), EIO);
  EXPECT_TRUE(message_of("raise SystemExit(3)").ends_with("SystemExit: 3"));
  EXPECT_TRUE(message_of("raise KeyboardInterrupt").ends_with("KeyboardInterrupt"));
  EXPECT_TRUE(message_of("raise GeneratorExit").ends_with("GeneratorExit"));
  EXPECT_CONTAINS(message_of("raise ExceptionGroup('many', [ValueError(1), OSError(28, 'x')])"), "OSError: [Errno 28]");
}

TEST_F(ErrorTest, OutOfMemory) {
  const Failure huge = failure("'x' * (2 ** 63 - 1)");
  EXPECT_EQ(huge.err, ENOMEM);
  EXPECT_CONTAINS(huge.message, "MemoryError");
  PyErr_NoMemory();
  EXPECT_EQ(take_failure(0).err, ENOMEM);
}

TEST_F(ErrorTest, OutOfStack) {
  const Failure deep = failure("def deep(): return deep()\ndeep()");
  EXPECT_EQ(deep.err, EIO);
  EXPECT_CONTAINS(deep.message, "RecursionError: maximum recursion depth exceeded");
  EXPECT_LT(deep.message.size(), 20000U);
}

// An exception may be pending as no more than a class and an argument.
TEST_F(ErrorTest, ExceptionsThatAreNotMadeYet) {
  PyErr_SetString(PyExc_PermissionError, "no");
  EXPECT_EQ(take_failure(0).err, EPERM);
  const Ref bad = value("type('Bad', (Exception,), {'__init__': lambda self, text: 1 / 0})");
  PyErr_SetString(bad.get(), "text");
  EXPECT_CONTAINS(take_failure(0).message, "ZeroDivisionError");
}

TEST_F(ErrorTest, NothingPending) {
  const Failure failure = take_failure(ENOSPC);
  EXPECT_EQ(failure.err, EIO);
  EXPECT_FALSE(failure.message.empty());
}

TEST_F(ErrorTest, PutBackAsItWas) {
  raise("try:\n  1 / 0\nexcept ZeroDivisionError:\n  raise KeyError('k')");
  put_back(take_exception());
  const Failure failure = take_raw_failure();
  EXPECT_CONTAINS(failure.message, "ZeroDivisionError: division by zero");
  EXPECT_CONTAINS(failure.message, "line 4");
  EXPECT_CONTAINS(failure.message, "KeyError: 'k'");
  EXPECT_FALSE(take_exception());
  put_back(Ref{});
  EXPECT_EQ(raised(), "");
}

TEST_F(ErrorTest, KeepsNoReferenceToTheException) {
  run("error, other = nbdkit.Error(28, 'x'), ValueError('x')");
  for (const char* const name : {"error", "other"}) {
    const Ref exception = value(name);
    auto* const type = reinterpret_cast<PyObject*>(Py_TYPE(exception.get()));
    const auto fail = [&] {
      PyErr_SetObject(type, exception.get());
      EXPECT_FALSE(take_failure(0).message.empty());
    };
    keeps_references(exception.get(), fail);
    keeps_references(type, fail);
  }
}

TEST_F(ErrorTest, LogText) {
  const auto log = [this](const char* expression) { return log_text(value(expression).get()); };
  EXPECT_EQ(log("'text \\u00e9 \\U0001f600'"), "text é 😀");
  EXPECT_EQ(log("b'bytes \\xc3\\xa9 \\xff\\0'"), "bytes é \\xff\\x00");
  EXPECT_EQ(log("'\\udcff\\0'"), "\\udcff\\x00");
  EXPECT_EQ(log("''"), "");
  EXPECT_EQ(log("[1, None]"), "[1, None]");
  EXPECT_EQ(log("None"), "None");
  EXPECT_EQ(log("type('Mine', (), {'__str__': lambda self: 1 / 0})()"), "<Mine that cannot be shown>");
  EXPECT_EQ(log("10 ** 5000"), "<int that cannot be shown>");
  // Of this one CPython's str() returns a text and has an exception pending.
  run("odd = UnicodeEncodeError('ascii', 'a', 0, 1, 'reason')\nodd.start = -1\nodd.end = 0");
  EXPECT_NE(log("odd"), "");
  EXPECT_EQ(raised(), "");
}

TEST_F(ErrorTest, Describe) {
  const auto described = [this](const char* expression) { return describe(value(expression).get()); };
  EXPECT_EQ(described("None"), "None");
  EXPECT_EQ(described("-3"), "int -3");
  EXPECT_EQ(described("'a\\0b'"), "str 'a\\x00b'");
  EXPECT_EQ(described("'a\\udc80'"), "str 'a\\udc80'");
  EXPECT_EQ(described("b'x' * 1000"), "bytes b'" + std::string(78, 'x') + "...");
  EXPECT_EQ(described("'x' * 78"), "str '" + std::string(78, 'x') + "'");
  EXPECT_EQ(described("type('Mine', (), {'__repr__': lambda self: 1 / 0})()"), "Mine");
  EXPECT_EQ(described("10 ** 5000"), "int");
}

TEST_F(ErrorTest, WrongAnswer) {
  const Ref list = value("[1]");
  keeps_references(list.get(), [&] { wrong_answer("a bool", list.get()); });
  wrong_answer("a bool", list.get());
  EXPECT_TRUE(PyErr_ExceptionMatches(interpreter::package().script_error.get()));
  const Failure failure = take_failure(0);
  EXPECT_EQ(failure.err, EIO);
  EXPECT_EQ(failure.message, "expected a bool, got list [1]");
}

TEST_F(ErrorTest, ScriptErrorTakesAnyBytes) {
  script_error("name \xFF");
  EXPECT_EQ(take_failure(0).message, "name \xEF\xBF\xBD");
}

}  // namespace
}  // namespace nbdkit_python::test

// SPDX-License-Identifier: BSD-3-Clause
// Answers of callbacks: what each conversion takes, what it refuses, and what the log would say of that.
#include "nbdkit_python/convert.hpp"

#include <cstdint>
#include <limits>

#include "python_code.hpp"

namespace nbdkit_python::test {
namespace {

constexpr std::int64_t int64_low = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t int64_high = std::numeric_limits<std::int64_t>::max();

class ConvertTest : public PythonTest {
 protected:
  // What a conversion raises for the value of an expression; each conversion is checked for lost references too.
  template <typename Convert>
  std::string refusal(const std::string& expression, const Convert& convert) {
    const Ref answer = value(expression);
    keeps_references(answer.get(), [&] { static_cast<void>(convert(answer.get())); });
    EXPECT_FALSE(convert(answer.get())) << expression;
    return raised();
  }
  template <typename Convert>
  auto taken(const std::string& expression, const Convert& convert) {
    const Ref answer = value(expression);
    keeps_references(answer.get(), [&] { static_cast<void>(convert(answer.get())); });
    auto result = convert(answer.get());
    EXPECT_TRUE(result) << expression << " raised " << raised();
    EXPECT_EQ(raised(), "") << expression;
    return result;
  }
  static std::string expected(const std::string& rest) { return "ScriptError: expected " + rest; }
};

TEST_F(ConvertTest, Arguments) {
  EXPECT_EQ(to_python(true).get(), Py_True);
  EXPECT_EQ(to_python(false).get(), Py_False);
  EXPECT_EQ(text(to_python(std::uint32_t{4294967295U}).get()), "4294967295");
  EXPECT_EQ(text(to_python(std::uint64_t{18446744073709551615U}).get()), "18446744073709551615");
  EXPECT_EQ(text(to_python("caf\xC3\xA9").get()), "café");
  const Ref odd = to_python("\xFF");
  EXPECT_EQ(PyUnicode_ReadChar(odd.get(), 0), 0xDCFFU) << "as in the file system's names";
  const Ref list = value("[]");
  keeps_references(list.get(), [&] { EXPECT_EQ(to_python(list.get()).get(), list.get()); });
  EXPECT_FALSE(to_python(static_cast<PyObject*>(nullptr)));
}

TEST_F(ConvertTest, Bool) {
  run("class Truth:\n"
      "    def __init__(self, truth): self.truth = truth\n"
      "    def __bool__(self): return self.truth\n");
  for (const char* const yes : {"True", "1", "2", "-1", "10 ** 100", "0.5", "Truth(True)"})
    EXPECT_TRUE(*taken(yes, to_bool)) << yes;
  for (const char* const no : {"False", "None", "0", "0.0", "Truth(False)"}) EXPECT_FALSE(*taken(no, to_bool)) << no;
}

TEST_F(ConvertTest, NotABool) {
  run("class Plain: pass\n"
      "class Sized:\n"
      "    def __len__(self): return 0\n"
      "class Fails:\n"
      "    def __bool__(self): raise KeyError('no')\n");
  for (const char* const bad : {"''", "'no'", "b''", "bytearray(1)", "[]", "()", "{}", "set()", "Plain()", "Sized()",
                                "Plain", "len", "memoryview(b'x')", "iter([])", "..."})
    EXPECT_TRUE(refusal(bad, to_bool).starts_with(expected("a bool, got "))) << bad;
  EXPECT_EQ(refusal("'no'", to_bool), expected("a bool, got str 'no'"));
  EXPECT_EQ(refusal("[]", to_bool), expected("a bool, got list []"));
  EXPECT_EQ(refusal("Fails()", to_bool), "KeyError: 'no'");
}

// Without __bool__, Python takes any object for true: an index of zero must not become a yes.
TEST_F(ConvertTest, AnIndexOfZeroIsNotTrue) {
  run("class Index:\n"
      "    def __index__(self): return 0\n");
  const std::optional<bool> truth = to_bool(value("Index()").get());
  EXPECT_FALSE(truth.value_or(false));
  PyErr_Clear();
}

TEST_F(ConvertTest, Int) {
  run("class Index:\n"
      "    def __index__(self): return 7\n");
  const auto any = [](PyObject* answer) { return to_int(answer, int64_low, int64_high); };
  const auto small = [](PyObject* answer) { return to_int(answer, 0, 3); };
  EXPECT_EQ(taken("2 ** 63 - 1", any), int64_high);
  EXPECT_EQ(taken("-2 ** 63", any), int64_low);
  EXPECT_EQ(taken("-1", any), -1);
  EXPECT_EQ(taken("Index()", any), 7);
  EXPECT_EQ(taken("True", any), 1);
  EXPECT_EQ(taken("0", small), 0);
  EXPECT_EQ(taken("3", small), 3);
}

TEST_F(ConvertTest, NotAnInt) {
  run("class Fails:\n"
      "    def __index__(self): raise KeyError('no')\n");
  const auto size = [](PyObject* answer) { return to_int(answer, 0, int64_high); };
  const auto small = [](PyObject* answer) { return to_int(answer, 0, 3); };
  const std::string wanted = "an int from 0 to 9223372036854775807, got ";
  EXPECT_EQ(refusal("None", size), expected(wanted + "None"));
  EXPECT_EQ(refusal("1.0", size), expected(wanted + "float 1.0"));
  EXPECT_EQ(refusal("'1'", size), expected(wanted + "str '1'"));
  EXPECT_EQ(refusal("-1", size), expected(wanted + "int -1"));
  EXPECT_EQ(refusal("2 ** 63", size), expected(wanted + "int 9223372036854775808"));
  EXPECT_EQ(refusal("10 ** 5000", size), expected(wanted + "int"));
  const auto any = [](PyObject* answer) { return to_int(answer, int64_low, int64_high); };
  EXPECT_TRUE(
      refusal("10 ** 30", any).starts_with(expected("an int from -9223372036854775808 to 9223372036854775807")));
  EXPECT_TRUE(refusal("-2 ** 63 - 1", any).starts_with(expected("an int from ")));
  EXPECT_EQ(refusal("4", small), expected("an int from 0 to 3, got int 4"));
  EXPECT_EQ(refusal("-10 ** 30", small), expected("an int from 0 to 3, got int -1" + std::string(30, '0')));
  EXPECT_EQ(refusal("Fails()", small), "KeyError: 'no'");
}

TEST_F(ConvertTest, Text) {
  EXPECT_EQ(taken("'caf\\u00e9'", to_text), "café");
  EXPECT_EQ(taken("b'caf\\xc3\\xa9 \\xff'", to_text), "café \xFF");
  EXPECT_EQ(taken("''", to_text), "");
  EXPECT_EQ(taken("b''", to_text), "");
  EXPECT_EQ(taken("type('Text', (str,), {})('x')", to_text), "x");
}

TEST_F(ConvertTest, NotAText) {
  EXPECT_EQ(refusal("None", to_text), expected("a str, got None"));
  EXPECT_EQ(refusal("3", to_text), expected("a str, got int 3"));
  EXPECT_EQ(refusal("bytearray(b'x')", to_text), expected("a str, got bytearray bytearray(b'x')"));
  EXPECT_EQ(refusal("'a\\udc80'", to_text), expected("a str that UTF-8 can encode, got str 'a\\udc80'"));
  EXPECT_EQ(refusal("'a\\0b'", to_text), expected("a str without NUL characters, got str 'a\\x00b'"));
  EXPECT_EQ(refusal("b'\\0'", to_text), expected("a str without NUL characters, got bytes b'\\x00'"));
}

TEST_F(ConvertTest, Nothing) {
  for (const char* const fine : {"None", "True", "3", "'text'", "b''", "[]", "iter([])", "len"})
    EXPECT_TRUE(taken(fine, to_nothing));
  run("import warnings\n"
      "warnings.simplefilter('ignore')\n"
      "async def coroutine(): pass\n"
      "def generator(): yield\n"
      "async def both(): yield\n");
  const std::string wanted =
      "a callback that has done its work (a plain function, not an asynchronous one or a generator), got ";
  EXPECT_TRUE(refusal("coroutine()", to_nothing).starts_with(expected(wanted + "coroutine <coroutine object")));
  EXPECT_TRUE(refusal("generator()", to_nothing).starts_with(expected(wanted + "generator <generator object")));
  EXPECT_TRUE(refusal("both()", to_nothing).starts_with(expected(wanted + "async_generator <async_generator object")));
  EXPECT_TRUE(refusal("(x for x in [])", to_nothing).starts_with(expected(wanted + "generator")));
}

TEST_F(ConvertTest, BlockSize) {
  const std::array<std::uint32_t, 3> sizes{512, 4096, 4294967295};
  EXPECT_EQ(taken("(512, 4096, 2 ** 32 - 1)", to_block_size), sizes);
  EXPECT_EQ(taken("[512, 4096, 2 ** 32 - 1]", to_block_size), sizes);
  EXPECT_EQ(taken("(0, 0, 0)", to_block_size), (std::array<std::uint32_t, 3>{}));
  const std::string wanted = "(minimum, preferred, maximum), three ints from 0 to 4294967295, got ";
  for (const char* const bad :
       {"None", "512", "(1, 2)", "(1, 2, 3, 4)", "(1, 2, 2 ** 32)", "(1, -2, 3)", "(1, 2.0, 3)", "(1, 2, None)",
        "('1', '2', '3')", "'abc'", "b'abc'", "range(3)", "{1, 2, 3}", "(1, 2, 10 ** 5000)"})
    EXPECT_TRUE(refusal(bad, to_block_size).starts_with(expected(wanted))) << bad;
  EXPECT_EQ(refusal("(1, 2)", to_block_size), expected(wanted + "tuple (1, 2)"));
}

TEST_F(ConvertTest, ExtentOfAnAnswer) {
  const auto extent = taken("(2 ** 63, 2 ** 63 - 1, 3)", to_extent);
  EXPECT_EQ(extent->offset, std::uint64_t{1} << 63);
  EXPECT_EQ(extent->length, (std::uint64_t{1} << 63) - 1);
  EXPECT_EQ(extent->type, 3U);
  EXPECT_EQ(taken("[0, 512, 0]", to_extent)->length, 512U);
  const std::string wanted =
      "(offset, length, type), three ints, offset + length below 2**64, type from 0 to 3 (EXTENT_HOLE | EXTENT_ZERO), "
      "got ";
  for (const char* const bad :
       {"None", "0", "(0, 512)", "(0, 512, 0, 0)", "(0, 512, 4)", "(0, 512, -1)", "(-1, 512, 0)", "(0, -512, 0)",
        "(2 ** 64, 512, 0)", "(2 ** 63, 2 ** 63, 0)", "(0, 512, '0')", "(0.0, 512, 0)", "'abc'", "b'abc'"})
    EXPECT_TRUE(refusal(bad, to_extent).starts_with(expected(wanted))) << bad;
}

TEST_F(ConvertTest, ExportOfAnAnswer) {
  const auto check = [this](const char* expression, const std::string& name, const std::optional<std::string>& about) {
    const auto found = taken(expression, to_export);
    EXPECT_EQ(found->name, name);
    EXPECT_EQ(found->description, about);
  };
  check("'caf\\u00e9'", "café", {});
  check("b'\\xff'", "\xFF", {});
  check("''", "", {});
  check("'ab'", "ab", {});
  check("('name', 'about')", "name", "about");
  check("['name', b'about']", "name", "about");
  check("('name', None)", "name", {});
  check("('name', '')", "name", "");
  for (const char* const bad : {"None", "3", "()", "('name',)", "('a', 'b', 'c')", "{'a': 'b'}", "{'a', 'b'}"})
    EXPECT_TRUE(refusal(bad, to_export).starts_with(expected("a name or (name, description), got "))) << bad;
  EXPECT_EQ(refusal("(3, 'about')", to_export), expected("a str, got int 3"));
  EXPECT_EQ(refusal("('name', 3)", to_export), expected("a str, got int 3"));
  EXPECT_EQ(refusal("'\\udc80'", to_export), expected("a str that UTF-8 can encode, got str '\\udc80'"));
  EXPECT_EQ(refusal("('name', 'a\\0')", to_export), expected("a str without NUL characters, got str 'a\\x00'"));
}

TEST_F(ConvertTest, Iterator) {
  const auto names = [](PyObject* answer) { return to_iterator(answer, "names"); };
  run("class Items:\n"
      "    def __getitem__(self, index):\n"
      "        if index == 2: raise IndexError\n"
      "        return index\n"
      "class Fails:\n"
      "    def __iter__(self): raise KeyError('no')\n");
  for (const char* const fine :
       {"[1, 2]", "(1, 2)", "{1: 2}", "iter([1])", "(x for x in [1])", "range(2)", "Items()"}) {
    const Ref iterator = names(value(fine).get());
    ASSERT_TRUE(iterator) << fine;
    EXPECT_TRUE(Ref::take(PyIter_Next(iterator.get()))) << fine;
  }
  for (const char* const bad : {"None", "3", "'names'", "b'names'", "''", "len"})
    EXPECT_TRUE(refusal(bad, names).starts_with(expected("names, got "))) << bad;
  EXPECT_EQ(refusal("Fails()", names), "KeyError: 'no'");
}

TEST_F(ConvertTest, CopyBytes) {
  run("import array, ctypes");
  const auto copied = [this](const char* expression, std::uint32_t count) {
    char buf[8] = "-------";
    taken(expression, [&](PyObject* answer) { return copy_bytes(answer, buf, count); });
    return std::string{buf};
  };
  EXPECT_EQ(copied("b'abcd'", 4), "abcd---");
  EXPECT_EQ(copied("b'abcdefghijklmn'", 4), "abcd---") << "what is longer is cut";
  EXPECT_EQ(copied("bytearray(b'abcd')", 3), "abc----");
  EXPECT_EQ(copied("memoryview(b'abcdef')[1:]", 4), "bcde---");
  EXPECT_EQ(copied("array.array('H', b'abcd')", 4), "abcd---") << "bytes are what counts, not items";
  EXPECT_EQ(copied("(ctypes.c_char * 4)(*b'abcd')", 4), "abcd---");
  EXPECT_EQ(copied("b''", 0), "-------");
}

TEST_F(ConvertTest, BytesThatCannotBeCopied) {
  char buf[8] = "-------";
  const auto four = [&](PyObject* answer) { return copy_bytes(answer, buf, 4); };
  const std::string wanted = "a contiguous bytes-like object of at least 4 bytes, got ";
  EXPECT_EQ(refusal("b'abc'", four), expected(wanted + "bytes of 3"));
  EXPECT_EQ(refusal("bytearray()", four), expected(wanted + "bytearray of 0"));
  EXPECT_EQ(refusal("None", four), expected(wanted + "None"));
  EXPECT_EQ(refusal("'abcd'", four), expected(wanted + "str 'abcd'"));
  EXPECT_EQ(refusal("4", four), expected(wanted + "int 4"));
  EXPECT_EQ(refusal("[1, 2, 3, 4]", four), expected(wanted + "list [1, 2, 3, 4]"));
  EXPECT_TRUE(refusal("memoryview(b'abcdefgh')[::2]", four).starts_with(expected(wanted + "memoryview")));
  run("view = memoryview(b'abcd')\nview.release()");
  EXPECT_TRUE(refusal("view", four).starts_with(expected(wanted + "memoryview")));
  EXPECT_STREQ(buf, "-------");
}

// A bytearray that is exported cannot be resized: that shows whether the copy let go of it.
TEST_F(ConvertTest, CopyBytesLetsGo) {
  run("data = bytearray(4)");
  char buf[8];
  EXPECT_TRUE(copy_bytes(value("data").get(), buf, 4));
  EXPECT_FALSE(copy_bytes(value("data").get(), buf, 5));
  PyErr_Clear();
  run("data.append(1)");
}

}  // namespace
}  // namespace nbdkit_python::test

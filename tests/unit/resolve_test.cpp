// SPDX-License-Identifier: BSD-3-Clause
// A script's callbacks: which are found, which are left alone, and which are refused, with what is then said.
#include "script_fixture.hpp"

// nbdkit's debug flags, which it finds by their names.
extern "C" int python_debug_calls, python_debug_timing;

namespace nbdkit_python::test {
namespace {

class ResolveTest : public ScriptTest {
 protected:
  // Of a script that is complete but for these lines.
  std::string fault(const std::string& lines) { return resolve_error(required_v2 + lines); }
  // Whether it has the callback; nothing must be said about it.
  bool has(const std::string& lines, std::size_t callback) {
    const auto script = resolved(required_v2 + lines);
    EXPECT_TRUE(fake().errors.empty()) << fake().errors.front();
    return script->has(callback);
  }
  // What is said about something that is no callback and left alone.
  std::string warning(const std::string& lines, std::size_t callback) {
    EXPECT_FALSE(resolved(required_v2 + lines)->has(callback));
    return error();
  }
};

TEST_F(ResolveTest, FindsWhatIsThere) {
  const auto script = resolved(required + "def close(h): pass\n");
  for (const std::size_t callback : {id::open, id::pread, id::close}) {
    EXPECT_TRUE(script->has(callback));
    EXPECT_EQ(script->callback(callback), value(std::string{"__main__."} + table[callback].name).get());
  }
  for (const std::size_t callback : {id::items, id::cache, id::load}) {
    EXPECT_FALSE(script->has(callback));
    EXPECT_EQ(script->callback(callback), nullptr);
  }
  EXPECT_TRUE(fake().errors.empty());
}

TEST_F(ResolveTest, NoneMeansAbsent) {
  EXPECT_FALSE(has("close = None", id::close));
  EXPECT_FALSE(has("cache = None", id::cache));
  EXPECT_EQ(fault("open = None"), "the callback open(readonly) is missing");
}

TEST_F(ResolveTest, OnceMoreAndThenFrozen) {
  const auto script = resolved(required);
  run("def close(h): pass\n__main__.close = close\n");
  EXPECT_FALSE(script->has(id::close));
  EXPECT_TRUE(script->resolve());
  EXPECT_TRUE(script->has(id::close));
  run("del __main__.close");
  EXPECT_TRUE(script->has(id::close));
  EXPECT_TRUE(script->resolve());
  EXPECT_FALSE(script->has(id::close));
}

TEST_F(ResolveTest, Missing) {
  EXPECT_EQ(resolve_error("def pread(h, count, offset): pass"), "the callback open(readonly) is missing");
  EXPECT_EQ(resolve_error("def open(readonly): pass\ndef preed(h, count, offset): pass"),
            "the callback pread(h, count, offset) is missing: did you mean 'preed'?");
  EXPECT_EQ(resolve_error("API_VERSION = 2\ndef open(readonly): pass\n"),
            "the callback pread(h, buf, offset, flags) is missing");
  EXPECT_EQ(resolve_error("def open(readonly): pass\npred = 3"), "the callback pread(h, count, offset) is missing")
      << "only a function could be meant";
}

TEST_F(ResolveTest, NotCallable) {
  EXPECT_EQ(fault("close = 3"), "close: expected a function close(h), got int 3");
  EXPECT_EQ(fault("pread = 'text'"), "pread: expected a function pread(h, buf, offset, flags), got str 'text'");
  EXPECT_CONTAINS(fault("close = 'x' * 1000"), "got str 'xxx");
}

TEST_F(ResolveTest, WrongParameters) {
  EXPECT_EQ(fault("def close(): pass"), "close: expected close(h), got close()");
  EXPECT_EQ(fault("def close(h, more): pass"), "close: expected close(h), got close(h, more)");
  EXPECT_EQ(fault("def close(h, *, more): pass"), "close: expected close(h), got close(h, *, more)");
  EXPECT_EQ(fault("def pread(h, count, offset): pass"),
            "pread: expected pread(h, buf, offset, flags), got pread(h, count, offset)");
  EXPECT_EQ(resolve_error(required + "def pread(h, buf, offset, flags): pass"),
            "pread: expected pread(h, count, offset), got pread(h, buf, offset, flags)");
  EXPECT_EQ(fault("close = lambda: 3"), "close: expected close(h), got close()");
  EXPECT_EQ(fault("def items(a): pass"), "items: expected items(), got items(a)");
  EXPECT_CONTAINS(fault("class close: pass"), "close: expected close(h), got close()");
}

TEST_F(ResolveTest, ParametersThatWillDo) {
  for (const char* const fine :
       {"def close(h, more=1): pass", "def close(*any): pass", "def close(x=1, *any, y=2, **more): pass",
        "def close(h, /): pass", "close = lambda h: 3", "close = print",
        "close = type('C', (), {'__call__': lambda s, h: 3})()", "class C:\n    def m(self, h): pass\nclose = C().m",
        "class C:\n    @classmethod\n    def m(cls, h): pass\nclose = C.m",
        "class C:\n    @staticmethod\n    def m(h): pass\nclose = C.m", "class close:\n    def __init__(self, h): pass",
        "import functools\nclose = functools.partial(lambda a, h: 3, 1)",
        "import functools\ndef bare(h): pass\n@functools.wraps(bare)\ndef close(*a): pass",
        "import functools\n@functools.lru_cache\ndef close(h): pass"})
    EXPECT_TRUE(has(fine, id::close)) << fine;
}

TEST_F(ResolveTest, BoundOrPartialWithWrongParameters) {
  EXPECT_EQ(fault("class C:\n    def m(self): pass\nclose = C().m"), "close: expected close(h), got close()");
  EXPECT_EQ(fault("close = type('C', (), {'__call__': lambda s: 3})()"), "close: expected close(h), got close()");
  EXPECT_EQ(fault("import functools\nclose = functools.partial(lambda h: 3, 1)"),
            "close: expected close(h), got close()");
}

TEST_F(ResolveTest, Asynchronous) {
  const std::string wanted =
      "get_ready: expected a plain function, got `async def get_ready`: callbacks can be asynchronous from after_fork "
      "on";
  EXPECT_EQ(fault("async def get_ready(): pass"), wanted);
  EXPECT_EQ(fault("class C:\n    async def m(self): pass\nget_ready = C().m"), wanted);
  EXPECT_EQ(fault("class C:\n    async def __call__(self): pass\nget_ready = C()"), wanted);
  EXPECT_EQ(fault("import functools\nasync def f(a): pass\nget_ready = functools.partial(f, 1)"), wanted);
  EXPECT_CONTAINS(fault("async def close(h): yield"), "got a generator");
  EXPECT_TRUE(has("async def close(h): pass", id::close));
  EXPECT_TRUE(has("async def items(): yield 1", id::items));
}

TEST_F(ResolveTest, Generators) {
  EXPECT_EQ(fault("def close(h): yield"),
            "close: expected a plain function, got a generator: a call of a function with `yield` does not run it");
  EXPECT_CONTAINS(fault("class C:\n    def m(self, h): yield\nclose = C().m"), "got a generator");
  EXPECT_TRUE(has("def items(): yield 1", id::items));
}

// A name that scripts also use for other things: only the script's own function is taken to be meant.
TEST_F(ResolveTest, Shared) {
  EXPECT_TRUE(has("def cache(h, flags): pass", id::cache));
  EXPECT_FALSE(has("from functools import cache", id::cache)) << "an import is no mistake";
  EXPECT_CONTAINS(warning("cache = {}", id::cache),
                  "warning: cache: expected a function cache(h, flags), got dict {}: left alone");
  EXPECT_EQ(fault("def cache(h): pass"), "cache: expected cache(h, flags), got cache(h)");
  EXPECT_CONTAINS(fault("async def cache(h): pass"), "cache: expected cache(h, flags)");
  EXPECT_CONTAINS(fault("import functools\ncache = functools.partial(lambda a: a, 1)"),
                  "cache: expected cache(h, flags)");
}

// A name that older scripts may use for functions of their own.
TEST_F(ResolveTest, Added) {
  EXPECT_TRUE(has("def load(): pass", id::load));
  EXPECT_FALSE(has("from pickle import load", id::load));
  EXPECT_CONTAINS(warning("def load(path): pass", id::load),
                  "warning: load: expected load(), got load(path): left alone");
  EXPECT_CONTAINS(warning("load = 3", id::load), "warning: load: expected a function load(), got int 3: left alone");
}

TEST_F(ResolveTest, WarnsOnce) {
  const auto script = resolved(required_v2 + "cache = {}\nload = 3\n");
  EXPECT_EQ(fake().errors.size(), 2U);
  EXPECT_TRUE(script->resolve());
  EXPECT_EQ(fake().errors.size(), 2U) << fake().errors.back();
  run("__main__.cache = []");
  EXPECT_TRUE(script->resolve());
  EXPECT_EQ(fake().errors.size(), 3U) << "another fault";
}

TEST_F(ResolveTest, WhatTheScriptRaisesMeanwhile) {
  const std::string raising = "def __getattr__(name): raise (KeyError if name == 'close' else AttributeError)(name)";
  EXPECT_TRUE(fault(raising).ends_with("KeyError: 'close'"));
  EXPECT_FALSE(has("def __getattr__(name): raise AttributeError(name)", id::close));
}

TEST_F(ResolveTest, AFaultLeavesTheTableAlone) {
  const auto script = resolved(required);
  run("__main__.close = 3");
  EXPECT_FALSE(script->resolve());
  EXPECT_EQ(error(), "close: expected a function close(h), got int 3");
  EXPECT_TRUE(script->has(id::pread));
  EXPECT_FALSE(script->has(id::close));
}

TEST_F(ResolveTest, TakesCount) {
  const std::string two = "API_VERSION = 2\ndef open(readonly): pass\n";
  for (const char* const count :
       {"def pread(h, count, offset, flags): pass", "def pread(handle, count, o, f): pass",
        "class C:\n    def m(self, h, count, offset, flags): pass\npread = C().m",
        "class C:\n    def __call__(self, h, count, offset, flags): pass\npread = C()",
        "import functools\npread = functools.partial(lambda a, h, count, offset, flags: 3, 1)",
        "import functools\ndef f(h, count, offset, flags): pass\n@functools.wraps(f)\ndef pread(*a): return f(*a)"})
    EXPECT_EQ(resolved(two + count)->takes_count(id::pread), true) << count;
  for (const char* const buf :
       {"def pread(h, buf, offset, flags): pass", "def pread(h, b, count, flags): pass", "def pread(*count): pass",
        "def pread(h, *count): pass", "def pread(count, h, offset, flags): pass",
        "class C:\n    def m(self, count, buf, offset, flags): pass\npread = C().m", "pread = print"})
    EXPECT_EQ(resolved(two + buf)->takes_count(id::pread), false) << buf;
}

// A method is in the table as the plain function that it is in its class, and the class is `open`.
TEST_F(ResolveTest, MethodsOfAClass) {
  const std::string disk =
      "import nbdkit\n"
      "@nbdkit.disk\n"
      "class Disk:\n"
      "    def __init__(self, readonly): pass\n"
      "    def pread(self, buf, offset, flags): buf[:] = b''\n"
      "    @staticmethod\n"
      "    def items(): return 3\n";
  const auto script = resolved(disk);
  EXPECT_EQ(script->api_version(), 2);
  EXPECT_EQ(script->callback(id::open), value("__main__.Disk").get());
  EXPECT_EQ(script->callback(id::pread), value("vars(__main__.Disk)['pread']").get());
  EXPECT_EQ(script->callback(id::items), value("__main__.Disk.items").get());
  EXPECT_EQ(script->takes_count(id::pread), false);
  EXPECT_EQ(script->fills_buffer(id::pread), true);
  const auto by_count = resolved(disk + "    def pread(self, count, offset, flags): return b''\n");
  EXPECT_EQ(by_count->takes_count(id::pread), true);
  EXPECT_EQ(by_count->fills_buffer(id::pread), false);
  const auto version_1 = resolved(disk + "    def pread(self, count, offset): return b''\nAPI_VERSION = 1\n");
  EXPECT_EQ(version_1->api_version(), 1);
}

TEST_F(ResolveTest, TracedOnlyIfAFlagIsSet) {
  auto plain = resolved(required_v2);
  EXPECT_EQ(plain->callback(id::pread), plain->own(id::pread));
  plain.reset();
  for (int* const flag : {&python_debug_calls, &python_debug_timing}) {
    *flag = 1;
    const auto script = resolved("API_VERSION = 2\ndef open(readonly): pass\ndef pread(h, count, *rest): return b''\n");
    *flag = 0;
    EXPECT_EQ(script->own(id::pread), value("__main__.pread").get());
    EXPECT_NE(script->callback(id::pread), script->own(id::pread));
    EXPECT_EQ(script->takes_count(id::pread), true) << "what is asked about it is asked about the script's own";
    EXPECT_FALSE(script->has(id::close));
    EXPECT_EQ(script->own(id::close), nullptr);
  }
}

// What follows from the statements is tested by test_fills.py.
TEST_F(ResolveTest, FillsBuffer) {
  const std::string two = "API_VERSION = 2\ndef open(readonly): pass\n";
  for (const char* const sure :
       {"def pread(h, buf, offset, flags): buf[:] = b''", "def pread(h, memory, *rest): memory[:] = b''",
        "class C:\n    def m(self, h, buf, offset, flags): buf[:] = b''\npread = C().m",
        "class C:\n    def __call__(self, h, buf, offset, flags): buf[:] = b''\npread = C()"})
    EXPECT_EQ(resolved(two + sure)->fills_buffer(id::pread), true) << sure;
  for (const char* const unsure :
       {"def pread(h, buf, offset, flags): pass", "def pread(*buf): buf[:] = b''", "def pread(h, *buf): buf[:] = b''",
        "def pread(buf, h, offset, flags): buf[:] = b''", "pread = print",
        "pread = lambda h, buf, offset, flags: buf.__setitem__(slice(None), b'')",
        "def same(function): return function\n@same\ndef pread(h, buf, offset, flags): buf[:] = b''",
        "import functools\ndef f(a, h, buf, o, flags): buf[:] = b''\npread = functools.partial(f, 1)",
        "exec('def pread(h, buf, offset, flags): buf[:] = b\\'\\'')"})
    EXPECT_EQ(resolved(two + unsure)->fills_buffer(id::pread), false) << unsure;
}

}  // namespace
}  // namespace nbdkit_python::test

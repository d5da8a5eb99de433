// SPDX-License-Identifier: BSD-3-Clause
// Loading a script: where it runs, what it is told when it cannot be served, and its API version.
#include "nbdkit_python/script.hpp"

#include <unistd.h>

#include "script_fixture.hpp"

namespace nbdkit_python::test {
namespace {

TEST_F(ScriptTest, RunsAsMain) {
  const auto script = load(
      "import sys, os\n"
      "assert __name__ == '__main__' and sys.modules['__main__'].__dict__ is globals()\n"
      "assert __file__ == sys.argv[0] and os.path.isabs(__file__) and __file__.endswith('/disk.py')\n"
      "assert sys.argv == [__file__]\n"
      "assert sys.path[0] == os.path.dirname(os.path.realpath(__file__))\n");
  ASSERT_TRUE(script) << error();
  EXPECT_EQ(script->name(), path());
  EXPECT_EQ(&script->server(), &fake_server());
  EXPECT_EQ(script->callbacks().size(), std::size(table));
  EXPECT_TRUE(holds("__main__.__file__ == sys.argv[0]")) << "they are kept";
}

TEST_F(ScriptTest, NameIsAsItWasGiven) {
  write("import os\nassert os.path.isabs(__file__)\nraise KeyError('found')");
  char was[4096];
  ASSERT_NE(getcwd(was, sizeof was), nullptr);
  ASSERT_EQ(chdir(std::filesystem::path{path()}.parent_path().c_str()), 0);
  EXPECT_FALSE(Script::load(fake_server(), "disk.py", table));
  ASSERT_EQ(chdir(was), 0);
  ASSERT_EQ(fake().errors.size(), 1U);
  EXPECT_TRUE(fake().errors[0].starts_with("disk.py: ")) << fake().errors[0];
  EXPECT_TRUE(fake().errors[0].ends_with("KeyError: 'found'")) << fake().errors[0];
}

TEST_F(ScriptTest, NameMayBeAnyBytes) {
  write("raise KeyError", "caf\xC3\xA9 \xFF.py");
  const std::string name = path("caf\xC3\xA9 \xFF.py");
  EXPECT_FALSE(Script::load(fake_server(), name.c_str(), table));
  EXPECT_TRUE(fake().errors.at(0).starts_with(name + ": ")) << fake().errors[0];
}

TEST_F(ScriptTest, ImportsFromItsFolderButNbdkitIsOurs) {
  write("raise AssertionError('not this one')", "nbdkit.py");
  write("value = 7", "beside_the_script.py");
  EXPECT_TRUE(
      load("import nbdkit, beside_the_script\n"
           "assert beside_the_script.value == 7\n"
           "assert nbdkit.EXTENT_ZERO == 2 and nbdkit.Error and nbdkit.debug\n"))
      << error();
}

// The first script of the first holder is __main__, whoever comes next; that one is a module of its own.
TEST_F(ScriptTest, SeveralAtOnce) {
  static const Server other_server = fake_server();
  write("value = __name__\nlate = []\n", "json.py");
  write("value = __name__\n", "other.py");
  const auto load_file = [this](const Server& server, const char* name) {
    auto script = Script::load(server, path(name).c_str(), table);
    EXPECT_TRUE(script) << (fake().errors.empty() ? "" : fake().errors.back());
    return script;
  };
  // Another door's, which comes first.
  const auto early = load_file(other_server, "json.py");
  const auto main = load(required + "import sys\nassert sys.modules['json.py'].value == 'json.py'\n");
  ASSERT_TRUE(main) << error();
  const auto second = load_file(fake_server(), "json.py");
  const auto third = load_file(other_server, "other.py");
  run("assert sys.modules['json.py (2)'].value == 'json.py (2)'\n"
      "assert sys.modules['json.py'].late is not sys.modules['json.py (2)'].late\n"
      "assert sys.modules['other.py'].value == 'other.py'\n"
      "assert __main__.__file__ == sys.argv[0] and sys.argv[0].endswith('disk.py')\n"
      "assert sys.modules['other.py'].__file__.endswith('/other.py')\n"
      "for name in 'json.py', 'json.py (2)', 'other.py': del sys.modules[name]\n");
}

TEST_F(ScriptTest, FromStandardInput) {
  const auto load_input = [this](const std::string& source) {
    run("import io\nsys.stdin = io.TextIOWrapper(io.BytesIO(b'''" + source + "'''))");
    return Script::load(fake_server(), "-", table);
  };
  const auto last_error = [] { return fake().errors.empty() ? "" : fake().errors.back(); };
  const auto script = load_input("import os, sys\nassert sys.argv == [\"-\"] and sys.path[0] == os.getcwd()\n");
  ASSERT_TRUE(script) << last_error();
  EXPECT_EQ(script->name(), "-");
  EXPECT_FALSE(load_input("def fail():\n    raise KeyError\nfail()"));
  EXPECT_CONTAINS(last_error(), "-: the script failed while it was loaded:\n");
  EXPECT_CONTAINS(last_error(), "File \"<stdin>\", line 2, in fail\n    raise KeyError\n");
  run("sys.stdin.close()");
  EXPECT_FALSE(Script::load(fake_server(), "-", table));
  EXPECT_EQ(last_error(), "-: cannot read the script from standard input: it is not open");
  fake().refuses = true;
  EXPECT_FALSE(Script::load(fake_server(), "-", table));
  EXPECT_EQ(last_error(), "-: cannot read the script from standard input: with -s that is the client's connection");
  run("sys.stdin = sys.__stdin__");
}

TEST_F(ScriptTest, SourceMayHaveAnEncoding) {
  EXPECT_TRUE(load("# -*- coding: latin-1 -*-\nassert len('\xE9') == 1\n")) << error();
  EXPECT_TRUE(load("\xEF\xBB\xBFvalue = 'caf\xC3\xA9'\r\nassert len(value) == 4\r\n")) << error();
}

TEST_F(ScriptTest, DoesNotInheritFutures) {
  EXPECT_TRUE(load("def f(x: (1, 2)): pass\nassert f.__annotations__['x'] == (1, 2)\n")) << error();
}

TEST_F(ScriptTest, UnreadableFile) {
  EXPECT_FALSE(Script::load(fake_server(), path().c_str(), table));
  EXPECT_EQ(error(), "cannot read the script: No such file or directory");
  std::filesystem::create_directory(path());
  EXPECT_FALSE(Script::load(fake_server(), path().c_str(), table));
  EXPECT_EQ(error(), "cannot read the script: Is a directory");
}

TEST_F(ScriptTest, DoesNotCompile) {
  const std::string syntax = load_error("value = 1\ndef open(:\n");
  EXPECT_TRUE(syntax.starts_with("cannot compile the script:\n")) << syntax;
  EXPECT_CONTAINS(syntax, "disk.py\", line 2");
  EXPECT_CONTAINS(syntax, "SyntaxError: ");
  EXPECT_LACKS(syntax, "Traceback");
  EXPECT_CONTAINS(load_error("if True:\npass"), "IndentationError: ");
  EXPECT_CONTAINS(load_error("value = '\xFF'"), "SyntaxError: ");
  EXPECT_CONTAINS(load_error(std::string_view{"a = 1\0b = 2", 11}), "null bytes");
  EXPECT_CONTAINS(load_error("# coding: klingon\n"), "klingon");
}

TEST_F(ScriptTest, RaisesWhileItIsLoaded) {
  const std::string error = load_error("def fail():\n    raise KeyError('text')\nfail()\n");
  EXPECT_TRUE(error.starts_with("the script failed while it was loaded:\nTraceback (most recent call last):\n"))
      << error;
  EXPECT_CONTAINS(error, "disk.py\", line 3, in <module>\n    fail()");
  EXPECT_TRUE(error.ends_with("KeyError: 'text'")) << error;
  EXPECT_LACKS(error, "_script.py");
  EXPECT_CONTAINS(load_error("import no_such_module"), "ModuleNotFoundError: No module named 'no_such_module'");
  EXPECT_CONTAINS(load_error("raise KeyboardInterrupt"), "KeyboardInterrupt");
  EXPECT_CONTAINS(load_error("raise ValueError('\\ud800\\0')"), "ValueError: \\ud800\\x00");
  EXPECT_CONTAINS(load_error("class Mine(Exception):\n    def __str__(self): raise KeyError\nraise Mine"), "Mine");
}

TEST_F(ScriptTest, SaysExit) {
  EXPECT_CONTAINS(load_error("import sys\nsys.exit(3)"), "the script called sys.exit(3) while it was loaded");
  EXPECT_CONTAINS(load_error("raise SystemExit"), "the script called sys.exit() while it was loaded");
  EXPECT_CONTAINS(load_error("raise SystemExit('text')"), "the script called sys.exit('text') while it was loaded");
}

TEST_F(ScriptTest, ApiVersion) {
  EXPECT_EQ(load("")->api_version(), 1);
  EXPECT_EQ(load("API_VERSION = 1")->api_version(), 1);
  EXPECT_EQ(load("API_VERSION = 2")->api_version(), 2);
  for (const char* const bad : {"3", "0", "-1", "'2'", "2.0", "None", "True", "10 ** 30"}) {
    const std::string error = load_error(std::string{"API_VERSION = "} + bad);
    EXPECT_TRUE(error.starts_with("API_VERSION: expected 1 or 2, got ")) << error;
  }
  EXPECT_EQ(load_error("API_VERSION = 3"), "API_VERSION: expected 1 or 2, got 3");
}

TEST_F(ScriptTest, MagicConfigKey) {
  EXPECT_EQ(load("")->magic_config_key(), std::nullopt);
  EXPECT_EQ(load("magic_config_key = 'file'")->magic_config_key(), "file");
  EXPECT_EQ(load("magic_config_key = None")->magic_config_key(), std::nullopt);
  EXPECT_EQ(load_error("magic_config_key = 3"), "magic_config_key: expected a str, got int 3");
  EXPECT_EQ(load_error("magic_config_key = 'a\\0'"),
            "magic_config_key: expected a str without NUL characters, got str 'a\\x00'");
  EXPECT_CONTAINS(load_error("magic_config_key = '\\udc80'"), "magic_config_key: expected a str that UTF-8 can encode");
}

TEST_F(ScriptTest, Summary) {
  EXPECT_EQ(load("value = 1")->summary(), std::nullopt);
  EXPECT_EQ(load("'''A disk.'''")->summary(), "A disk.");
  EXPECT_EQ(load("'''\n  \tA caf\xC3\xA9.\n\nMore of it.\n'''")->summary(), "A café.");
  EXPECT_EQ(load("''' \n\n '''")->summary(), "");
  EXPECT_EQ(load("''")->summary(), "");
  EXPECT_EQ(load("__doc__ = 'A \\ud800 \\0.'")->summary(), "A \\ud800 \\x00.");
  EXPECT_EQ(load("__doc__ = 3")->summary(), std::nullopt);
}

TEST_F(ScriptTest, Dump) {
  EXPECT_EQ(load("")->dump(), "");
  EXPECT_EQ(load("import nbdkit\np = nbdkit.parameter('p', int, help='A\\nnumber.')")->dump(),
            "python_parameter_p=INT (required): A number.\n");
  EXPECT_EQ(load_error("import nbdkit\np = nbdkit.parameter('p', int)\nq = nbdkit.parameter('p', int)"),
            "the parameter p is declared more than once");
}

TEST_F(ScriptTest, Report) {
  const auto script = load("");
  PyErr_SetString(PyExc_PermissionError, "no");
  EXPECT_EQ(script->report("pread"), EPERM);
  EXPECT_EQ(error(), "pread: PermissionError: no");
  PyErr_SetString(PyExc_ValueError, "no");
  EXPECT_EQ(script->report("", ENOSPC), ENOSPC);
  EXPECT_EQ(error(), "ValueError: no");
  script->complain("pread", "text");
  EXPECT_EQ(error(), "pread: text");
  script->complain("", "text");
  EXPECT_EQ(error(), "text");
}

TEST_F(ScriptTest, KeepsNoCallbackOnceItIsGone) {
  auto script = resolved(required);
  const Ref pread = value("__main__.pread");
  const Py_ssize_t held = Py_REFCNT(pread.get());
  script.reset();
  EXPECT_EQ(Py_REFCNT(pread.get()), held - 2) << "what is called, and the script's own";
}

}  // namespace
}  // namespace nbdkit_python::test

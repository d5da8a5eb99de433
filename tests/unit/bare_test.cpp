// SPDX-License-Identifier: BSD-3-Clause
// What scripts can import where the server lacks all that it may lack.
#include "child.hpp"
#include "fake_server.hpp"
#include "nbdkit_python/interpreter.hpp"

namespace nbdkit_python::test {
namespace {

// Runs statements over the bare server; they may use fails(), which tells what an expression raises.
void over_bare_server(const std::string& code) {
  in_child([&] {
    ASSERT_TRUE(interpreter::hold(bare_server()));
    EXPECT_TRUE(
        python("import nbdkit\n"
               "def fails(expression):\n"
               "    try: eval(expression)\n"
               "    except Exception as error: return f'{type(error).__name__}: {error}'\n"));
    EXPECT_TRUE(python(code)) << code;
    interpreter::release();
    EXPECT_FALSE(Py_IsInitialized());
  });
}

TEST(Bare, LacksWhatTheServerLacks) {
  over_bare_server(
      "import _nbdkit\n"
      "assert {name for name in dir(_nbdkit) if not name.startswith('_')} == {'debug', 'set_error'}, dir(_nbdkit)\n"
      "for name in 'disconnect', 'shutdown', 'realpath', 'peer_pid', 'parse_size', 'nanosleep', 'export_name':\n"
      "    assert not hasattr(nbdkit, name), name\n"
      "    assert name not in dir(nbdkit), name\n");
}

TEST(Bare, SaysWhichServerHasIt) {
  over_bare_server(
      "for name, version in {'disconnect': '1.34', 'peer_tls_dn': '1.40', 'timestamp': '1.48'}.items():\n"
      "    said = fails('nbdkit.' + name)\n"
      "    assert said == f'AttributeError: nbdkit.{name} needs nbdkit {version} or later: this server lacks it', "
      "said\n"
      "try: from nbdkit import disconnect\n"
      "except ImportError: pass\n"
      "else: raise AssertionError\n");
}

TEST(Bare, HasWhatEveryServerHas) {
  over_bare_server(
      "nbdkit.debug('text')\n"
      "nbdkit.set_error(5)\n"
      "assert nbdkit.THREAD_MODEL_PARALLEL == 3\n"
      "assert nbdkit.Error(28).errno == 28\n");
}

TEST(Bare, ParsesDelaysByItself) {
  over_bare_server(
      "for text, result in {'5': (5, 0), '5s': (5, 0), '2.5s': (2, 500000000), '100ms': (0, 100000000),\n"
      "                     '20us': (0, 20000), '20μs': (0, 20000), '30ns': (0, 30), '0': (0, 0),\n"
      "                     '4294967295': (4294967295, 0)}.items():\n"
      "    assert nbdkit.parse_delay('key', text) == result, (text, nbdkit.parse_delay('key', text))\n"
      "for text in '', 'x', '-1', '1m', '4294967296', '1 s', 'nan', 'inf', '٣':\n"
      "    said = fails(f'nbdkit.parse_delay(\"key\", {text!r})')\n"
      "    assert said and said.startswith('ValueError: key: expected a delay such as'), (text, said)\n"
      "assert fails('nbdkit.parse_delay(\"key\", 5)').startswith('TypeError: nbdkit.parse_delay: ')\n"
      "assert fails('nbdkit.parse_delay(5, \"5\")').startswith('TypeError: nbdkit.parse_delay: what: ')\n");
}

TEST(Bare, ParsesProbabilitiesByItself) {
  over_bare_server(
      "for text, result in {'0.25': 0.25, '25%': 0.25, '1:4': 0.25, '1/4': 0.25, '1e-2': 0.01, '0': 0, '1': 1,\n"
      "                     '.5': 0.5, '0:0': 0}.items():\n"
      "    assert nbdkit.parse_probability('key', text) == result, (text, nbdkit.parse_probability('key', text))\n"
      "for text in '', 'x', '-1', '1:', '1:0', '1%2', 'nan', 'inf', '1e400', '1 %':\n"
      "    said = fails(f'nbdkit.parse_probability(\"key\", {text!r})')\n"
      "    assert said and said.startswith('ValueError: key: expected a probability such as'), (text, said)\n");
}

// More than a float can hold is a bad value like any other.
TEST(Bare, RefusesDelaysBeyondFloats) {
  over_bare_server(
      "said = fails('nbdkit.parse_delay(\"key\", \"1e400\")')\n"
      "assert said.startswith('ValueError: key: expected a delay such as'), said\n");
}

// One script for servers old and new: the parameters have the names that they have where the server parses.
TEST(Bare, ParsersTakeTheSameNames) {
  over_bare_server(
      "assert nbdkit.parse_delay(what='key', str='5') == (5, 0)\n"
      "assert nbdkit.parse_probability(what='key', str='1') == 1\n");
}

}  // namespace
}  // namespace nbdkit_python::test

// SPDX-License-Identifier: BSD-3-Clause
// Runs one file's tests with an interpreter that is held from the first to the last of them.
#include <gtest/gtest.h>

#include <cstdlib>

#include "fake_server.hpp"
#include "nbdkit_python/interpreter.hpp"

namespace {

class Interpreter : public testing::Environment {
 public:
  void SetUp() override {
    // Of the person who runs the tests.
    unsetenv("VIRTUAL_ENV");
    ASSERT_TRUE(nbdkit_python::interpreter::hold(nbdkit_python::test::fake_server()));
  }
  // All threads have ended: this finalizes.
  void TearDown() override {
    nbdkit_python::interpreter::release();
    EXPECT_FALSE(Py_IsInitialized());
  }
};

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  testing::AddGlobalTestEnvironment(new Interpreter);
  return RUN_ALL_TESTS();
}

// SPDX-License-Identifier: BSD-3-Clause
// A test in a process of its own: an interpreter can be started once in a process, and ended once.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "nbdkit_python/attach.hpp"

namespace nbdkit_python::test {

inline std::string ending(int status) {
  return WIFEXITED(status) ? "exit status " + std::to_string(WEXITSTATUS(status))
                           : "signal " + std::to_string(WTERMSIG(status));
}

// Runs the body in a child, which then leaves by exit(), as servers do. It must end in time, and without a failure.
// The process that calls this must not have started Python.
template <typename Body>
void in_child(const Body& body) {
  std::fflush(nullptr);
  const pid_t child = fork();
  ASSERT_NE(child, -1);
  if (child == 0) {
    alarm(20);
    body();
    std::exit(testing::Test::HasFailure() ? EXIT_FAILURE : EXIT_SUCCESS);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(ending(status), "exit status 0");
}

// Runs statements in __main__; whether they raised nothing.
inline bool python(const std::string& code) {
  const Attach attach;
  return PyRun_SimpleString(code.c_str()) == 0;
}

}  // namespace nbdkit_python::test

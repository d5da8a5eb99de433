# SPDX-License-Identifier: BSD-3-Clause
# The RAM disk in Perl. Parameter: size=BYTES.
use strict;

our $API_VERSION = 2;
my $disk = "";

sub config { my ($key, $value) = @_; $disk = "\0" x $value if $key eq "size"; }
sub open { return 1; }
sub get_size { return length $disk; }
sub can_write { return 1; }
sub pread { my ($h, $count, $offset, $flags) = @_; return substr $disk, $offset, $count; }
sub pwrite { my ($h, $buf, $offset, $flags) = @_; substr($disk, $offset, length $buf) = $buf; }
sub zero { my ($h, $count, $offset, $flags) = @_; substr($disk, $offset, $count) = "\0" x $count; }
sub flush { }

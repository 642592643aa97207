#pragma once

// The one place that says which API of libfuse is meant.
#define FUSE_USE_VERSION 312

#include <fuse_lowlevel.h>

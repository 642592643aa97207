# Linked PRIVATE and only while building: warnings are ours, never our users'.
add_library(safepair_warnings INTERFACE)
target_compile_options(safepair_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor)
option(SAFEPAIR_WERROR "Treat warnings as errors" OFF)
if(SAFEPAIR_WERROR)
  target_compile_options(safepair_warnings INTERFACE -Werror)
endif()

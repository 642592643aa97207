# Builds PROJECT, which takes the source tree as a folder of its own.
include(${CMAKE_CURRENT_LIST_DIR}/foreign.cmake)
file(REMOVE_RECURSE ${WORK})
build_foreign(-DSAFEPAIR_SOURCE=${SAFEPAIR_SOURCE})

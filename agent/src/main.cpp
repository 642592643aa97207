#include "agent_main.hpp"

int main(int argc, char** argv) { return safepair::agent::agent_main(argc, argv, {}); }

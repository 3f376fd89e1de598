// Prints the table that docs/platforms.md holds.
#include <iostream>

#include "common/platform/describe.h"

int main() { std::cout << studio::MatrixAsMarkdown(); }

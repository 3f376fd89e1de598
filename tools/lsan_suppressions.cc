// c-ares, inside gRPC's resolver, keeps ten small strings. LeakSanitizer asks here when it is linked in; else dead
// code.
extern "C" const char* __lsan_default_suppressions() { return "leak:libcares.so\n"; }

# The one place that decides warnings, sanitizers and their flags.
add_library(baton_warnings INTERFACE)
target_compile_options(baton_warnings INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor
  -Woverloaded-virtual -Wimplicit-fallthrough)
# TRY(...) is a statement expression, which GCC and Clang both have.
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  target_compile_options(baton_warnings INTERFACE -Wno-gnu-statement-expression)
else()
  target_compile_options(baton_warnings INTERFACE -Wno-pedantic)
endif()
# GCC takes a .cpp that a unity source includes for a header, whose unnamed types should not be members of named ones;
# and where it inlines more it takes the unused half of a std::expected for something that is read. The dev preset,
# which compiles one by one, has both warnings.
if(BATON_UNITY AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(baton_warnings INTERFACE -Wno-subobject-linkage -Wno-maybe-uninitialized)
endif()
if(BATON_WERROR)
  target_compile_options(baton_warnings INTERFACE -Werror)
endif()
# The libraries report their coverage to the fuzzers, which would be blind without it.
if(BATON_FUZZERS)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
if(BATON_SANITIZE)
  add_compile_options(-fsanitize=${BATON_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  # With a sanitizer's checks in between, gcc no longer sees that <regex> fills what it reads.
  add_compile_options(-Wno-maybe-uninitialized)
  # GCC's thread sanitizer does not know Asio's fences, and says so.
  if(BATON_SANITIZE STREQUAL "thread" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    add_compile_options(-Wno-tsan)
  endif()
  add_link_options(-fsanitize=${BATON_SANITIZE})
endif()

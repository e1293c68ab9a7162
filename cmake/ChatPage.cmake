# The chat page of web/, built by npm and embedded in the program.
option(BATON_PAGE "Build the chat page (needs Node.js 18 and npm)" ON)

# npm installs what web/package-lock.json names, once for all build folders. Sets VARIABLE to whether it is there.
function(baton_page_packages variable)
  set(${variable} FALSE PARENT_SCOPE)
  find_program(BATON_NODE node)
  find_program(BATON_NPM npm)
  if(NOT BATON_NODE OR NOT BATON_NPM)
    message(STATUS "No chat page: Node.js or npm is missing")
    return()
  endif()
  execute_process(COMMAND ${BATON_NODE} --version OUTPUT_VARIABLE version OUTPUT_STRIP_TRAILING_WHITESPACE)
  string(REGEX REPLACE "^v" "" version "${version}")
  if(version VERSION_LESS 18)
    message(STATUS "No chat page: Node.js is of version ${version}, and 18 is needed")
    return()
  endif()
  set(lock ${CMAKE_SOURCE_DIR}/web/package-lock.json)
  set(installed ${CMAKE_SOURCE_DIR}/web/node_modules/.package-lock.json)
  if(NOT EXISTS ${installed} OR ${lock} IS_NEWER_THAN ${installed})
    message(STATUS "Installing the chat page's packages")
    execute_process(COMMAND ${BATON_NPM} ci --ignore-scripts --no-audit --no-fund --loglevel=error
      WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}/web RESULT_VARIABLE status OUTPUT_QUIET ERROR_VARIABLE reason TIMEOUT 180)
    if(NOT status EQUAL 0)
      message(WARNING "No chat page: npm cannot install what it is built with: ${reason}")
      return()
    endif()
  endif()
  set_property(DIRECTORY ${CMAKE_SOURCE_DIR} APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${lock})
  set(${variable} TRUE PARENT_SCOPE)
endfunction()

# baton_page_source(VARIABLE): sets it to the C++ source with the page's files, or to no_page.cpp where they cannot be
# built.
function(baton_page_source variable)
  set(${variable} no_page.cpp PARENT_SCOPE)
  if(NOT BATON_PAGE)
    return()
  endif()
  baton_page_packages(has_packages)
  if(NOT has_packages)
    return()
  endif()
  set(web ${CMAKE_SOURCE_DIR}/web)
  set(dist ${CMAKE_BINARY_DIR}/web)
  set(source ${CMAKE_CURRENT_BINARY_DIR}/page_files.cpp)
  set(scripts api.ts events.ts main.ts markdown.ts plan.ts store.ts view.ts style.css icon.svg)
  list(TRANSFORM scripts PREPEND ${web}/src/)
  add_custom_command(OUTPUT ${source}
    COMMAND ${BATON_NODE} node_modules/vite/bin/vite.js build --logLevel warn --emptyOutDir --outDir ${dist}
    COMMAND ${BATON_NODE} embed.js ${dist} ${source}
    DEPENDS ${scripts} ${web}/index.html ${web}/vite.config.ts ${web}/embed.js ${web}/package-lock.json
    WORKING_DIRECTORY ${web} COMMENT "Building the chat page" VERBATIM)
  # A file of the page is one literal.
  set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-Wno-overlength-strings")
  set(${variable} ${source} PARENT_SCOPE)
endfunction()

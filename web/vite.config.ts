import { defineConfig } from "vite";

export default defineConfig({
  build: {
    target: "es2022",
    // The page's policy allows no data: address, and every file is one of this program's.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  // While the page is worked on: `npm run dev` beside a `baton up`.
  server: { proxy: { "/v1": process.env.BATON_API ?? "http://127.0.0.1:8770" } },
});

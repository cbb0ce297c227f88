// React's UMD build as a module, so that a page without a build step can say `import … from "react"`.
export const { StrictMode, createElement, useInsertionEffect, useRef, useState, useSyncExternalStore } = globalThis.React;

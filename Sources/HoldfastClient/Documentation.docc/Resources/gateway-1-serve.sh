.build/debug/holdfast serve --dev --port 8080

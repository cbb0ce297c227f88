import ArgumentParser
import AsyncHTTPClient
import Histogram
print("hi")

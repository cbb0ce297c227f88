import Testing
import NIOEmbedded
@testable import RESP
@Test func stub() {}

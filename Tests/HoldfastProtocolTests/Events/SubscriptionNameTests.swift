import Testing

@testable import HoldfastProtocol

@Suite struct SubscriptionNameTests {
    @Test(arguments: [
        ("calls.call_1", "calls", "call_1"), ("a.b", "a", "b"), ("a.b.c", "a", "b.c"), ("a..", "a", "."), ("é.ü", "é", "ü"), ("a. ", "a", " "),
        ("e\u{301}.x", "e\u{301}", "x"), ("😀.😀", "😀", "😀"),
    ])
    func parts(_ text: String, _ service: String, _ topic: String) throws {
        let name = try SubscriptionName(text, limit: 256)
        #expect(name.text == text)
        #expect(name.service == service)
        #expect(name.topic == topic)
    }

    @Test(arguments: ["", ".", "a", "a.", ".b", "..", ".a.b"])
    func refuses(_ text: String) {
        #expect(throws: ProtocolError.badSubscription) { try SubscriptionName(text, limit: 256) }
    }

    @Test(arguments: [3, 4, 255, 256])
    func limit(_ limit: Int) throws {
        let text = "a." + String(repeating: "b", count: limit - 2)
        #expect(try SubscriptionName(text, limit: limit).text == text)
        #expect(throws: ProtocolError.limitExceeded("The subscription's length in bytes", limit: limit, actual: limit + 1)) {
            try SubscriptionName(text + "b", limit: limit)
        }
    }

    @Test func theLimitCountsBytes() throws {
        #expect(try SubscriptionName("a.é", limit: 4).topic == "é")
        var error: ProtocolError?
        do { _ = try SubscriptionName("a.é", limit: 3) } catch let thrown { error = thrown }
        #expect(error?.code == "limit_exceeded")
        #expect(error?.exceeded == .init(limit: 3, actual: 4))
    }
}

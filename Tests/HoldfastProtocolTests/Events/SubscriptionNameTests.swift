import Testing

@testable import HoldfastProtocol

@Suite struct SubscriptionNameTests {
    @Test(arguments: [
        ("calls.call_1", "calls", "call_1"), ("a.b", "a", "b"), ("a.b.c", "a", "b.c"), ("a..", "a", "."),
        ("é.ü", "é", "ü"), ("a. ", "a", " "),
        ("e\u{301}.x", "e\u{301}", "x"), ("😀.😀", "😀", "😀"),
    ])
    func parts(_ text: String, _ service: String, _ topic: String) throws {
        let name = try SubscriptionName(text, limit: 256)
        #expect(name.text == text)
        #expect(name.service == service)
        #expect(name.topic == topic)
    }

    /// A dot is a dot, whatever code point follows: SocketShark splits code points, not what people see as characters.
    @Test(arguments: ["a.\u{301}b", "a.b\u{301}"])
    func combiningCharacters(_ text: String) throws {
        let name = try SubscriptionName(text, limit: 256)
        #expect(name.service == "a")
        #expect(Array(name.topic.utf8) == Array(text.utf8.dropFirst(2)))
    }

    /// Names that are not the same bytes are not the same name.
    @Test func namesAreBytes() throws {
        let composed = try SubscriptionName("a.\u{E9}", limit: 256)
        let decomposed = try SubscriptionName("a.e\u{301}", limit: 256)
        #expect(composed != decomposed)
        #expect(Set([composed, decomposed, composed]).count == 2)
    }

    @Test(arguments: ["", ".", "a", "a.", ".b", "..", ".a.b"])
    func refuses(_ text: String) {
        #expect(throws: ProtocolError.badSubscription) { try SubscriptionName(text, limit: 256) }
    }

    @Test(arguments: [3, 4, 255, 256])
    func limit(_ limit: Int) throws {
        let text = "a." + String(repeating: "b", count: limit - 2)
        #expect(try SubscriptionName(text, limit: limit).text == text)
        #expect(
            throws: ProtocolError.limitExceeded("The subscription's length in bytes", limit: limit, actual: limit + 1)
        ) {
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

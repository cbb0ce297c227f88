import NIOCore
import Testing

@testable import HoldfastProtocol

@Suite struct PublishedMessageTests {
    private func message(_ text: String, limits: JSONLimits = JSONLimits()) throws(PublishedMessage.Problem)
        -> PublishedMessage
    {
        try PublishedMessage(parsing: ByteBuffer(string: text).inDirtyBuffer(), limits: limits)
    }

    @Test func everything() throws {
        let message = try self.message(
            """
            {"subscription": "books.book_1", "data": {"n": 1.0}, "published_at": "2026-04-21T10:00:00Z", "user_id": "u1",
             "options": {"order": 3, "order_key": "k", "throttle": 0.1, "throttle_key": "t"}, "other": [1]}
            """)
        #expect(message.subscription == "books.book_1")
        #expect(message.data.text == "{\"n\": 1.0}")
        #expect(message.publishedAt == "2026-04-21T10:00:00+00:00")
        let conditions = try #require(message.conditions(filterFields: ["user_id", "team"]))
        #expect(conditions.order == 3)
        #expect(conditions.throttle == 0.1)
        #expect(conditions.fields.map(\.name) == ["user_id"])
    }

    @Test func theLeast() throws {
        let message = try self.message("{\"subscription\":\"\",\"data\":null}")
        #expect(message.subscription == "")
        #expect(message.data.kind == .null)
        #expect(message.publishedAt == nil)
        #expect(message.conditions(filterFields: ["user_id"]) == nil)
    }

    @Test(
        arguments: [
            "null", "true", "0", "1.50", "1e999", "123456789012345678901234567890", "\"\"", "\"\\ud800\"", "[ ]",
            "{\"a\":1,\"a\":2}", "{\"data\": {\"subscription\": 1}}",
        ])
    func dataPassesByteForByte(_ data: String) throws {
        #expect(try self.message("{\"data\": \(data) ,\"subscription\":\"s.t\"}").data.text == data)
    }

    @Test func theLastOfDuplicatesWins() throws {
        let message = try self.message("{\"subscription\":\"a\",\"data\":1,\"data\":2,\"subscription\":\"b\"}")
        #expect(message.subscription == "b")
        #expect(message.data.text == "2")
    }

    @Test(
        arguments: [
            "", " ", "hello", "null", "1", "\"a\"", "[]", "[{\"subscription\":\"s.t\",\"data\":1}]",
            "{\"subscription\":\"s.t\",\"data\":1", "{\"subscription\":\"s.t\",\"data\":1}x",
            "{\"subscription\":\"s.t\",\"data\":NaN}", "{\"subscription\":\"s.t\",\"data\":Infinity}",
            "{'subscription':'s.t','data':1}",
        ])
    func isNoJSONObject(_ text: String) {
        #expect(throws: PublishedMessage.Problem.notJSON) { try self.message(text) }
    }

    @Test func invalidUTF8() {
        var text = ByteBuffer(string: "{\"subscription\":\"s.t\",\"data\":\"")
        text.writeBytes([0xFF, UInt8(ascii: "\""), UInt8(ascii: "}")])
        #expect(throws: PublishedMessage.Problem.notJSON) { try PublishedMessage(parsing: text) }
    }

    @Test func limits() throws {
        let text = "{\"subscription\":\"s.t\",\"data\":[[1]],\"a\":1}"
        _ = try self.message(text, limits: JSONLimits(depth: 3, members: 3))
        #expect(throws: PublishedMessage.Problem.notJSON) {
            try self.message(text, limits: JSONLimits(depth: 2, members: 3))
        }
        #expect(throws: PublishedMessage.Problem.notJSON) {
            try self.message(text, limits: JSONLimits(depth: 3, members: 2))
        }
    }

    @Test(
        arguments: [
            "{}", "{\"data\":1}", "{\"subscription\":null,\"data\":1}", "{\"subscription\":1,\"data\":1}",
            "{\"subscription\":[\"s.t\"],\"data\":1}", "{\"subscription\":\"\\ud800\",\"data\":1}",
            "{\"Subscription\":\"s.t\",\"data\":1}", "{\"data\":{\"subscription\":\"s.t\"}}",
        ])
    func noSubscription(_ text: String) {
        #expect(throws: PublishedMessage.Problem.noSubscription) { try self.message(text) }
    }

    @Test(arguments: ["{\"subscription\":\"s.t\"}", "{\"subscription\":\"s.t\",\"Data\":1,\"options\":{\"data\":1}}"])
    func noData(_ text: String) {
        #expect(throws: PublishedMessage.Problem.noData) { try self.message(text) }
    }

    /// What cannot be read is left out, and no reason to lose the message.
    @Test(
        arguments: [
            ("\"2026-04-21T10:00:00+00:00\"", "2026-04-21T10:00:00+00:00"), ("\"2026-04-21\"", "2026-04-21T00:00:00"),
            ("\"2026-04-21T10:00:00.5Z\"", "2026-04-21T10:00:00.500000+00:00"),
            ("\"2026-04-21T10:00:00\"", "2026-04-21T10:00:00"), ("\"yesterday\"", nil), ("\"\"", nil), ("null", nil),
            ("1776765600", nil), ("1776765600.5", nil), ("true", nil), ("[]", nil), ("{}", nil), ("\"\\ud800\"", nil),
        ] as [(String, String?)])
    func publishedAt(_ text: String, _ expected: String?) throws {
        let message = try self.message("{\"subscription\":\"s.t\",\"data\":1,\"published_at\":\(text)}")
        #expect(message.publishedAt == expected)
        #expect(message.data.text == "1")
    }

    /// SocketShark loses the message.
    @Test(arguments: ["null", "1", "\"a\"", "[]", "{\"order\":[],\"throttle\":{}}"])
    func oddOptions(_ text: String) throws {
        let message = try self.message("{\"subscription\":\"s.t\",\"data\":1,\"options\":\(text)}")
        #expect(message.conditions(filterFields: []) == nil)
    }

    @Test func labels() {
        let labels = [PublishedMessage.Problem.notJSON, .noSubscription, .noData].map(\.rawValue)
        #expect(labels == ["not_json", "no_subscription", "no_data"])
    }
}

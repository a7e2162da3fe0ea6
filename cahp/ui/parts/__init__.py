"""Elements that pages draw: charts, boxes for texts, and the budget board."""

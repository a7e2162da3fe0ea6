"""What people take home: masks, models, reports, recipes."""
